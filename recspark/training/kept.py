"""What is the same in every epoch, kept from the first on: a tensor a step, in temporary files that are mapped."""

import shutil
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor

SPARE = 2**30  # bytes of the disk that are left to others


class KeptSteps:
    """float32 tensors by step, up to a number of bytes; those of further steps are made anew each time."""

    def __init__(self, limit: int):
        self.left = limit
        self.folder = TemporaryDirectory(prefix="recspark-kept-")
        self.files: dict[Any, Path] = {}

    def of(self, step: Any, make: Callable[[], Tensor], device: torch.device) -> Tensor:
        """The step's tensor; `make` must give the same each time."""
        if (found := self.found(step, device)) is not None:
            return found
        tensor = make()
        self.keep(step, tensor)
        return tensor

    def found(self, step: Any, device: torch.device) -> Tensor | None:
        """The step's tensor if it is kept."""
        if step not in self.files:
            return None
        return torch.from_numpy(np.load(self.files[step], mmap_mode="c")).to(device, non_blocking=True)

    def keep(self, step: Any, tensor: Tensor) -> None:
        """If there is room."""
        size = tensor.numel() * 4
        if size > min(self.left, shutil.disk_usage(self.folder.name).free - SPARE):
            return
        self.left -= size
        path = Path(self.folder.name) / f"{len(self.files)}.npy"
        try:
            np.save(path, tensor.float().cpu().numpy())
            self.files[step] = path
        except OSError:  # the disk is full after all; what is not kept is made anew
            path.unlink(missing_ok=True)
            self.left = 0
