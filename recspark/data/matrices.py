"""Matrices that workers need whole, dense or sparse: written once by the driver, mapped from disk by every worker.

<folder>/dense.npy                                    a dense one
<folder>/data.npy, indices.npy, indptr.npy, shape.npy  a sparse one in CSR
"""

import uuid
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.fs as pafs
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from recspark.lake import local_folder

PARTS = ("data", "indices", "indptr")


@dataclass(frozen=True)
class Matrix:
    """Where a matrix lies; small enough to travel with a task."""

    folder: str

    def read(self) -> NDArray[Any] | csr_matrix:
        """The matrix; its numbers come through the page cache and are read-only."""
        local = local_folder(self.folder)
        if (local / "dense.npy").exists():
            return np.load(local / "dense.npy", mmap_mode="r")
        parts = tuple(np.load(local / f"{part}.npy", mmap_mode="r") for part in PARTS)
        return csr_matrix(parts, tuple(np.load(local / "shape.npy")), copy=False)


def write_matrix(matrix: NDArray[Any] | csr_matrix, scratch: str) -> Matrix:
    """Lay it out under a scratch folder."""
    folder = f"{scratch}/matrix-{uuid.uuid4().hex}"  # never twice the same: machines keep copies by path
    fs, base = pafs.FileSystem.from_uri(folder)
    fs.create_dir(base)
    if isinstance(matrix, np.ndarray):
        # By rows: a product with a sparse matrix would copy any other layout whole.
        arrays = {"dense": np.ascontiguousarray(matrix)}
    else:
        arrays = {part: getattr(matrix, part) for part in PARTS} | {"shape": np.array(matrix.shape)}
    for name, array in arrays.items():
        with fs.open_output_stream(f"{base}/{name}.npy") as stream:
            np.lib.format.write_array(stream, array)
    return Matrix(folder)
