"""A rank's training examples: its shard of the table, read once, kept memory-mapped, given out in batches.

The only importer of Petastorm. Both readers give the same examples in the same order, so they train the same model.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from recspark.models.encoder import pad
from recspark.models.objectives import ItemTargets

ReaderKind = Literal["petastorm", "arrow"]
COLUMNS = (
    "part",
    "batch",
    "slot",
    "batch_size",
    "positives",
    "penalty",
    "unobserved",
    "weight",
    "tokens",
    "user_sum",
    "user_root",
)
BYTES = {"tokens": np.dtype("<i4"), "user_sum": np.dtype("<f4"), "user_root": np.dtype("<f4")}


@dataclass(frozen=True)
class Batch:
    """A rank's share of one step. size: items of the whole step, over all ranks; key: which step, (part, number)."""

    token_ids: torch.Tensor
    mask: torch.Tensor
    targets: ItemTargets
    size: int
    key: tuple[str, int]

    def to(self, device: torch.device) -> "Batch":
        targets = ItemTargets(*(t.to(device, non_blocking=True) for t in vars(self.targets).values()))
        return Batch(self.token_ids.to(device), self.mask.to(device), targets, self.size, self.key)


class Ragged:
    """Rows of unequal length, appended to a file and then mapped: memory holds what is being read."""

    def __init__(self, path: Path, dtype: np.dtype[Any]):
        self.path, self.dtype, self.ends = path, dtype, [0]
        self.stream = path.open("wb")

    def append(self, rows: NDArray[Any]) -> None:
        for row in rows:
            self.stream.write(row)
            self.ends.append(self.ends[-1] + len(row) // self.dtype.itemsize)

    def close(self) -> None:
        self.stream.close()
        self.values = np.memmap(self.path, self.dtype, "r") if self.ends[-1] else np.empty(0, self.dtype)

    def __getitem__(self, row: int) -> NDArray[Any]:
        return self.values[self.ends[row] : self.ends[row + 1]]


class Shard:
    """One rank's examples, in steps of the parts `train` and `valid`."""

    def __init__(self, path: str, kind: ReaderKind, factors: int):
        """path: the folder of one shard. factors: K."""
        self.factors = factors
        self.folder = TemporaryDirectory(prefix="recspark-shard-")
        self.ragged = {name: Ragged(Path(self.folder.name) / name, dtype) for name, dtype in BYTES.items()}
        plain: dict[str, list[NDArray[Any]]] = {name: [] for name in COLUMNS if name not in BYTES}
        for piece in READERS[kind](path):
            for name, ragged in self.ragged.items():
                ragged.append(piece[name])
            for name, parts in plain.items():
                parts.append(np.asarray(piece[name]))
        for ragged in self.ragged.values():
            ragged.close()
        self.plain = {name: np.concatenate(parts) for name, parts in plain.items()}
        order = np.lexsort((self.plain["slot"], self.plain["batch"], self.plain["part"]))
        keys = list(zip(self.plain["part"][order], self.plain["batch"][order].tolist(), strict=True))
        starts = [i for i, key in enumerate(keys) if i == 0 or key != keys[i - 1]]
        self.by_step = dict(zip([keys[i] for i in starts], np.split(order, starts[1:]), strict=True))

    def __len__(self) -> int:
        return len(self.plain["part"])

    def steps(self, part: str) -> int:
        """Steps of a part; the same on every rank by the table's making."""
        return max((step + 1 for found, step in self.by_step if found == part), default=0)

    def rows(self, part: str, step: int) -> NDArray[np.int64]:
        """Positions of this rank's examples of one step, by slot."""
        return self.by_step.get((part, step), np.empty(0, np.int64))

    def batches(self, part: str, order: NDArray[np.int64]) -> Iterator[Batch]:
        """The steps of a part in the given order."""
        for step in order:
            yield self.batch(part, int(step))

    def batch(self, part: str, step: int) -> Batch:
        """This rank's examples of one step, padded."""
        rows = self.rows(part, step)
        token_ids, mask = pad([self.ragged["tokens"][r] for r in rows])
        roots = [self.ragged["user_root"][r].reshape(-1, self.factors) for r in rows]
        user_root = np.zeros((len(rows), max((len(r) for r in roots), default=0), self.factors), np.float32)
        for position, root in enumerate(roots):
            user_root[position, : len(root)] = root
        user_sum = np.stack([self.ragged["user_sum"][r] for r in rows])
        positives, *others = (self.plain[name][rows] for name in ("positives", "penalty", "unobserved", "weight"))
        numbers = (positives, user_sum, user_root, *others)
        targets = ItemTargets(*(torch.from_numpy(np.asarray(n, np.float32)) for n in numbers))
        return Batch(token_ids, mask, targets, int(self.plain["batch_size"][rows[0]]), (part, step))


def read_petastorm(path: str) -> Iterator[dict[str, NDArray[Any]]]:
    """Row groups of a folder of Parquet files, through Petastorm."""
    import warnings

    # Petastorm 0.12 uses names that pyarrow 14 says will go; they are there in the locked set.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"petastorm\..*")
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"pyarrow\..*")
    from petastorm import make_batch_reader

    logging.getLogger("petastorm").setLevel(
        logging.ERROR
    )  # it warns that the table is not its own kind; it is plain Parquet

    url = (
        path if "://" in path else f"file://{Path(path).absolute()}"
    )  # Petastorm takes the path as it stands, unquoted
    with make_batch_reader(
        url, schema_fields=list(COLUMNS), shuffle_row_groups=False, num_epochs=1, workers_count=1
    ) as reader:
        for piece in reader:
            yield piece._asdict()


def read_arrow(path: str) -> Iterator[dict[str, NDArray[Any]]]:
    """Record batches of the same folder, through pyarrow's dataset reader."""
    import pyarrow.dataset as ds
    import pyarrow.fs as pafs

    fs, base = pafs.FileSystem.from_uri(path)
    for piece in ds.dataset(base, filesystem=fs, format="parquet").to_batches(columns=list(COLUMNS)):
        if piece.num_rows:
            yield {name: piece.column(name).to_numpy(zero_copy_only=False) for name in COLUMNS}


READERS = {"petastorm": read_petastorm, "arrow": read_arrow}
