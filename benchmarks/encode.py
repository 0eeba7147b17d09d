"""Texts to vectors, against sentence-transformers' `encode` and Spark's predict_batch_udf: `make bench-encode`.

MiniLM reads amazon-office's item texts (of the folder named by RECSPARK_DATASETS), repeated with small variations to 20,000
distinct ones, and MovieLens-100K's, each cut to as many tokens as its configuration says. 20,000 texts are dealt at random into
parts, and a turn encodes one part: the same for all sides. Tokenisation is counted on all sides. The kernel and sentence-transformers
use all cores on strings in memory; ours and the peer on Spark go from Parquet to Parquet with one thread a task.
The peer on Spark is the documented form, a model kept by each worker and batches of 100 rows, with sentence-transformers inside.
"""

import json
import os
import statistics
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from harness import (
    CORES,
    ROOT,
    Contender,
    Line,
    Side,
    Turns,
    alternate,
    arguments,
    data_set,
    in_seconds,
    matmul_gflops,
    tell,
)
from numpy.typing import NDArray

from recspark.data.catalogue import vectors_of
from recspark.data.text import filled, parse_template, text_hash, tokenise
from recspark.models.encoder import load_tokenizer

SIDES = {
    "kernel": CORES,
    "sentence_transformers": CORES,
    "job": None,
    "predict_batch_udf": None,
}  # threads each is told
KERNEL_GOAL, JOB_GOAL, UDF_GOAL, SHARE_GOAL = 1.35, 1.2, 2.0, 0.7
COSINE = 0.9999
FILES = 8  # of each part, so that the cores share the reading
DISTINCT, PARTS = 20_000, 20
QUICK_TEXTS, AWAKE_TEXTS = 40, 64
MODEL = ROOT / ".data" / "minilm"


@dataclass(frozen=True)
class Source:
    """Texts by the template that the data set's configuration has, and what that cuts them to, in tokens."""

    name: str
    template: str
    max_length: int
    distinct: int | None = None  # texts are repeated to so many
    parts: int = 1

    def texts(self, table: pd.DataFrame) -> list[str]:
        template = parse_template(self.template)
        rows = table[list(template.fields)].fillna("")
        once = list(dict.fromkeys(filled(template, row) for row in rows.itertuples(index=False)))
        return [variation(once[n % len(once)], n // len(once)) for n in range(self.distinct or len(once))]


OFFICE = Source("amazon-office", "{title}. {brand}. {description}", 96, DISTINCT, PARTS)
FILMS = Source(
    "MovieLens-100K", "{movie_title:token_seq} ({release_year:token}). Genres: {class:token_seq}.", max_length=32
)


def variation(text: str, number: int) -> str:
    """The text itself, or another that is as long but for its first words, which no limit cuts off."""
    return f"Lot {number}: {text}" if number else text


def main() -> None:
    given = arguments(__doc__)
    tables = {FILMS: pd.read_csv(ROOT / ".data/ml-100k/ml-100k.item", sep="\t", quoting=3, dtype=str)}
    left_out = []
    if data_sets := os.environ.get("RECSPARK_DATASETS"):
        tables[OFFICE] = pd.read_parquet(data_set(data_sets, "amazon-office") / "items.parquet")
    else:
        left_out.append("amazon-office: RECSPARK_DATASETS names no folder that has it")
    with TemporaryDirectory() as name, ExitStack() as stack:
        folder, rates, lines = Path(name), matmul_gflops(given.turns), []
        sides = {side: start(stack, side, threads, folder) for side, threads in SIDES.items()}
        for source, table in tables.items():
            work = folder / source.name
            parts = write_parts(source, table, work, given.turns, given.quick)
            took = alternate(contenders(sides, source, work, len(parts)), given.turns, given.quick)
            rates += matmul_gflops(given.turns)
            lines += lines_of(source, took, work, parts, statistics.median(rates))
    tell("encode", lines, left_out, rates, given.quick)


def start(stack: ExitStack, side: str, threads: int | None, folder: Path) -> Side:
    command: list[str | Path] = [sys.executable, Path(__file__).parent / "encode_sides.py", side]
    return stack.enter_context(Side(side, command, folder, threads))


def write_parts(source: Source, table: pd.DataFrame, folder: Path, turns: int, quick: bool) -> list[list[str]]:
    """The texts of each part, as Parquet (text_hash, text) in FOLDER/part-N; and a few in FOLDER/awake."""
    texts = np.array(source.texts(table), object)
    order = np.random.default_rng(42).permutation(len(texts))
    dealt = [order[:QUICK_TEXTS]] if quick else np.array_split(order, source.parts)[:turns]
    parts = [texts[chosen].tolist() for chosen in dealt]
    for name, part in [("awake", parts[0][:AWAKE_TEXTS]), *((f"part-{n}", part) for n, part in enumerate(parts))]:
        rows = pa.table({"text_hash": [text_hash(text) for text in part], "text": part})
        size = -(-len(rows) // FILES)
        (folder / name).mkdir(parents=True)
        for number in range(FILES):
            pq.write_table(rows.slice(number * size, size), folder / name / f"{number}.parquet")
    return parts


def contenders(sides: dict[str, Side], source: Source, folder: Path, parts: int) -> list[Contender]:
    """A turn is that of the part of its number; there may be fewer parts than turns."""

    def request(name: str, part: str) -> dict[str, Any]:
        return {"texts": str(folder / part), "max_length": source.max_length, "vectors": f"{folder}/{name}-{part}"}

    def contender(name: str) -> Contender:
        return Contender(name, sides[name], lambda turn: request(name, f"part-{turn % parts}"), request(name, "awake"))

    return [contender(name) for name in sides]


def lines_of(source: Source, took: dict[str, Turns], folder: Path, parts: list[list[str]], gflops: float) -> list[Line]:
    """The four rows of a data set."""
    tokenizer = load_tokenizer(MODEL, source.max_length)
    lengths = [[len(t) for t in tokenise(tokenizer, part, source.max_length)] for part in parts]
    tokens = sum(map(sum, lengths)) / sum(map(len, lengths))
    what = f"{source.name}, {len(parts[0])} texts of {tokens:.0f} tokens on average"
    cosine = {name: least_cosine(folder, name, len(parts)) for name in SIDES}
    kernel, job, theirs, udf = (took[name] for name in ("kernel", "job", "sentence_transformers", "predict_batch_udf"))

    def line(name: str, ours: Turns, peer: Turns, goal: float, sides: tuple[str, ...]) -> Line:
        least = min(cosine[side] for side in sides)
        return in_seconds(f"{name}; {what}", ours, peer, goal, least > COSINE, least_cosine=round(least, 7))

    work = [flops(part) / 1e9 / gflops for part in lengths]
    at_full_rate = [work[turn % len(parts)] for turn in range(len(kernel.seconds))]
    return [
        line("kernel beside sentence-transformers", kernel, theirs, KERNEL_GOAL, ("kernel",)),
        line("Spark job beside sentence-transformers", job, theirs, JOB_GOAL, ("job",)),
        line("Spark job beside predict_batch_udf", job, udf, UDF_GOAL, ("job", "predict_batch_udf")),
        Line(
            f"kernel beside its real tokens' work at the matrix product's rate, seconds; {what}",
            kernel.seconds,
            at_full_rate,
            SHARE_GOAL,
            cosine["kernel"] > COSINE,
        ),
    ]


def flops(lengths: list[int]) -> float:
    """Of the matrix products for texts of so many tokens, none of them padding: 4 H² + 2 H I a token and layer, and the attention's 2 L H.

    H: the hidden size; I: that of the feed-forward's inner layer; each multiplication comes with an addition.
    """
    said = json.loads((MODEL / "config.json").read_text())
    hidden, inner, layers = said["hidden_size"], said["intermediate_size"], said["num_hidden_layers"]
    count = np.asarray(lengths, np.float64)
    return float(2 * layers * (count * (4 * hidden**2 + 2 * hidden * inner) + 2 * count**2 * hidden).sum())


def least_cosine(folder: Path, name: str, parts: int) -> float:
    """Between a side's vectors and sentence-transformers', over all texts; -1 if any text has none."""
    least = 1.0
    for part in range(parts):
        theirs = np.load(f"{folder}/sentence_transformers-part-{part}.npy")
        ours = vectors(folder, name, part)
        if ours.shape != theirs.shape:
            return -1.0
        least = min(least, float((unit(ours) * unit(theirs)).sum(1).min()))
    return least


def vectors(folder: Path, name: str, part: int) -> NDArray[np.float32]:
    """(texts, H) in the order of the part's texts."""
    kept = Path(f"{folder}/{name}-part-{part}")
    if not kept.is_dir():
        return np.load(f"{kept}.npy")
    order = ds.dataset(folder / f"part-{part}").to_table(["text_hash"])["text_hash"]
    found = ds.dataset(kept).to_table(["text_hash", "vector"])
    return vectors_of(found["vector"])[pc.index_in(order, found["text_hash"].combine_chunks()).to_numpy()]


def unit(rows: NDArray[np.float32]) -> NDArray[np.float64]:
    wide = rows.astype(np.float64)
    return wide / np.linalg.norm(wide, axis=1, keepdims=True)


if __name__ == "__main__":
    main()
