"""What ranks keep in temporary files that are mapped. The files have no name: they go with the process, however that ends."""

import os
import shutil
import tempfile
from collections.abc import Callable
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

SPARE = 2**30  # bytes of the disk that are left to others


def nameless(buffering: int = -1) -> IO[bytes]:
    """An empty temporary file."""
    return tempfile.TemporaryFile(prefix="recspark-", buffering=buffering)


def reserved(size: int) -> IO[bytes]:
    """A temporary file of so many bytes that are on the disk: a map of a file with holes ends the process once the disk is full.

    Raises OSError if there is no room.
    """
    file = nameless()
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            file.truncate(size)
    except OSError:
        file.close()
        raise
    return file


class KeptSteps:
    """What is the same in every epoch, kept from the first on: a float32 tensor a step, up to a number of bytes; others are made anew each time."""

    def __init__(self, limit: int):
        self.left, self.end, self.file = limit, 0, nameless(buffering=0)
        self.places: dict[Any, tuple[int, tuple[int, ...]]] = {}  # offset and shape, by step

    def __contains__(self, step: Any) -> bool:
        return step in self.places

    def of(self, step: Any, make: Callable[[], Tensor], device: torch.device) -> Tensor:
        """The step's tensor; `make` must give the same each time."""
        if (found := self.found(step, device)) is not None:
            return found
        tensor = make()
        self.keep(step, tensor)
        return tensor

    def found(self, step: Any, device: torch.device) -> Tensor | None:
        """The step's tensor if it is kept."""
        if step not in self.places:
            return None
        offset, shape = self.places[step]
        return torch.from_numpy(np.memmap(self.file, np.float32, "c", offset, shape)).to(device, non_blocking=True)

    def keep(self, step: Any, tensor: Tensor) -> None:
        """If there is room."""
        size = tensor.numel() * 4
        free = shutil.disk_usage(tempfile.gettempdir()).free - SPARE
        if not 0 < size <= min(self.left, free):
            return
        rest = memoryview(tensor.detach().float().cpu().numpy().tobytes())
        try:
            self.file.seek(self.end)
            while rest:
                rest = rest[self.file.write(rest) :]
        except OSError:  # the disk is full after all; what is not kept is made anew
            self.left = 0
            return
        self.places[step] = self.end, tuple(tensor.shape)
        self.end, self.left = self.end + size, self.left - size
