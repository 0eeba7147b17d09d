"""Checkpoints of a training: one safetensors file an epoch, tensors by name and the rest as JSON in its metadata."""

import json
import tempfile
import uuid
from pathlib import Path
from typing import Any

import pyarrow.fs as pafs
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

KEEP = 2


def save(folder: str, epoch: int, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
    """Write the epoch's checkpoint whole or not at all; only the newest two are kept."""
    fs, base = pafs.FileSystem.from_uri(folder)
    fs.create_dir(base, recursive=True)
    with tempfile.TemporaryDirectory() as local:
        path = Path(local) / "checkpoint"
        save_file(
            {n: t.detach().cpu().contiguous() for n, t in tensors.items()}, path, metadata={"facts": json.dumps(facts)}
        )
        partial = f"{base}/{uuid.uuid4().hex}.partial"
        pafs.copy_files(str(path), partial, destination_filesystem=fs)
        fs.move(partial, f"{base}/epoch-{epoch:05d}.safetensors")
    for old in names(folder)[:-KEEP]:
        fs.delete_file(f"{base}/{old}")


def load_last(folder: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """(tensors, facts) of the newest checkpoint, if there is one."""
    found = names(folder)
    if not found:
        return None
    fs, base = pafs.FileSystem.from_uri(folder)
    with tempfile.TemporaryDirectory() as local:
        path = str(Path(local) / "checkpoint")
        pafs.copy_files(f"{base}/{found[-1]}", path, source_filesystem=fs)
        with safe_open(path, "pt") as stream:
            return {n: stream.get_tensor(n) for n in stream.keys()}, json.loads(stream.metadata()["facts"])  # noqa: SIM118


def names(folder: str) -> list[str]:
    """File names of the whole checkpoints, oldest first."""
    fs, base = pafs.FileSystem.from_uri(folder)
    files = fs.get_file_info(pafs.FileSelector(base, allow_not_found=True))
    return sorted(
        f.base_name for f in files if f.base_name.startswith("epoch-") and f.base_name.endswith(".safetensors")
    )
