"""A rank's training examples: its shard of the table, read once, kept memory-mapped, given out in batches.

The only importer of Petastorm. Both readers give the same examples in the same order, so they train the same model.
"""

import logging
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from recspark.errors import UserError
from recspark.training.kept import nameless

ReaderKind = Literal["petastorm", "arrow"]
LAYOUT = ("part", "batch", "slot", "batch_size")  # every training table's; see data.examples


@dataclass(frozen=True)
class Columns:
    """What a training table has beside its layout: the examples' id, columns of numbers, and of bytes that are arrays of a type."""

    id: str
    numbers: tuple[str, ...]
    arrays: dict[str, np.dtype[Any]]

    @property
    def names(self) -> list[str]:
        return [*LAYOUT, *self.numbers, *self.arrays]


@dataclass(frozen=True)
class Step:
    """A rank's share of one step. size: examples of the whole step, over all ranks; key: which step, (part, number)."""

    numbers: dict[str, NDArray[Any]]
    arrays: dict[str, list[NDArray[Any]]]
    size: int
    key: tuple[str, int]

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))


class Ragged:
    """Rows of unequal length, appended to a temporary file and then mapped: memory holds what is being read, and 8 bytes a row."""

    def __init__(self, dtype: np.dtype[Any]):
        self.dtype, self.ends = dtype, array("q", [0])
        self.file = nameless()

    def append(self, rows: NDArray[Any]) -> None:
        for row in rows:
            self.file.write(row)
            self.ends.append(self.ends[-1] + len(row) // self.dtype.itemsize)

    def close(self) -> None:
        self.file.flush()
        self.values = np.memmap(self.file, self.dtype, "r") if self.ends[-1] else np.empty(0, self.dtype)
        self.file.close()

    def __getitem__(self, row: int) -> NDArray[Any]:
        return self.values[self.ends[row] : self.ends[row + 1]]


class Shard:
    """One rank's examples, in steps of the parts `train` and `valid`."""

    def __init__(self, path: str, kind: ReaderKind, columns: Columns):
        """path: the folder of one shard."""
        self.path, self.columns = path, columns
        self.ragged = {name: Ragged(dtype) for name, dtype in columns.arrays.items()}
        plain: dict[str, list[NDArray[Any]]] = {name: [] for name in (*LAYOUT, *columns.numbers)}
        for piece in READERS[kind](path, columns.names):
            for name, ragged in self.ragged.items():
                ragged.append(piece[name])
            for name, parts in plain.items():
                parts.append(np.asarray(piece[name]) == "valid" if name == "part" else np.asarray(piece[name]))
        for ragged in self.ragged.values():
            ragged.close()
        self.plain = {name: np.concatenate(parts) for name, parts in plain.items()}
        order = np.lexsort((self.plain["slot"], self.plain["batch"], self.plain["part"]))
        held_out, batch = self.plain["part"][order], self.plain["batch"][order]
        begins = np.ones(len(order), bool)
        begins[1:] = (held_out[1:] != held_out[:-1]) | (batch[1:] != batch[:-1])
        starts = np.flatnonzero(begins)
        keys = [("valid" if held_out[row] else "train", int(batch[row])) for row in starts]
        self.by_step = dict(zip(keys, np.split(order, starts[1:]), strict=True))

    def __len__(self) -> int:
        return len(self.plain["part"])

    def step(self, part: str, number: int) -> Step:
        """This rank's examples of one step, by slot."""
        rows = self.rows(part, number)
        numbers = {name: self.plain[name][rows] for name in self.columns.numbers}
        arrays = {name: [self.ragged[name][r] for r in rows] for name in self.columns.arrays}
        return Step(numbers, arrays, int(self.plain["batch_size"][rows[0]]), (part, number))

    def ids(self, key: tuple[str, int]) -> list[Any]:
        """Of the step's examples; read from the table again, as only an error asks for them."""
        import pyarrow.compute as pc

        here = (pc.field("part") == key[0]) & (pc.field("batch") == key[1])
        return opened(self.path).to_table(columns=[self.columns.id], filter=here)[self.columns.id].to_pylist()

    def steps(self, part: str) -> int:
        """Steps of a part; the same on every rank by the table's making."""
        return max((step + 1 for found, step in self.by_step if found == part), default=0)

    def rows(self, part: str, step: int) -> NDArray[np.int64]:
        """Positions of this rank's examples of one step, by slot."""
        return self.by_step.get((part, step), np.empty(0, np.int64))

    def in_order(self, part: str, order: NDArray[np.int64]) -> Iterator[Step]:
        """The steps of a part in the given order."""
        for number in order:
            yield self.step(part, int(number))


def read_petastorm(path: str, columns: list[str]) -> Iterator[dict[str, NDArray[Any]]]:
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
    refuse_pickled(path)
    with make_batch_reader(
        url, schema_fields=columns, shuffle_row_groups=False, num_epochs=1, workers_count=1
    ) as reader:
        for piece in reader:
            yield piece._asdict()


def refuse_pickled(path: str) -> None:
    """UserError if the folder has the file in which Petastorm looks for a pickled schema; recspark writes none."""
    import pyarrow.fs as pafs

    fs, base = pafs.FileSystem.from_uri(path if "://" in path else str(Path(path).absolute()))
    for name in ("_common_metadata", "_metadata"):
        if fs.get_file_info(f"{base}/{name}").type != pafs.FileType.NotFound:
            raise UserError(
                f"{path} has a file {name}, which recspark does not write and which Petastorm would unpickle; run the stage again"
            )


def read_arrow(path: str, columns: list[str]) -> Iterator[dict[str, NDArray[Any]]]:
    """Record batches of the same folder, through pyarrow's dataset reader."""
    for piece in opened(path).to_batches(columns=columns):
        if piece.num_rows:
            yield {name: piece.column(name).to_numpy(zero_copy_only=False) for name in columns}


def opened(path: str) -> Any:
    """The folder as a pyarrow dataset."""
    import pyarrow.dataset as ds
    import pyarrow.fs as pafs

    fs, base = pafs.FileSystem.from_uri(path)
    return ds.dataset(base, filesystem=fs, format="parquet")


READERS = {"petastorm": read_petastorm, "arrow": read_arrow}
