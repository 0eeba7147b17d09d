"""A raw log and a catalogue to clean, split, tokenised tables, against the same steps in pandas, one process: `make bench-preprocess`.

Logs of three sizes with the shape of real ones: items by Zipf, users by Pareto, a few bots of 100,000 events; one event in a thousand without an
item, one in a thousand of an item that is not in the catalogue, one in twenty met before. Both sides reject with a reason, keep the last event of a
user with an item, split by time, count users' events, and normalise, hash and tokenise the items' texts by the same functions, Parquet to Parquet;
ours is the stage, its checks and manifests with it. The same answer: every event in the same split, every text with the same tokens. pandas does not do the
largest log; that is there for how seconds grow.
"""

import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from harness import CORES, Contender, Line, Side, Turns, alternate, arguments, in_seconds, matmul_gflops, tell

HERE = Path(__file__).parent
DATE = "2026-01-02"
FILES = 8
BOT_EVENTS = 100_000
FIRST = 1_700_000_000  # seconds since 1970 of the first event
PANDAS_GOAL, MEMORY_GOAL, FLAT_GOAL = 1.0, 2.0, 1 / 1.2
CHUNK = 1_000_000  # events drawn at a time


@dataclass(frozen=True)
class Size:
    """events: of the logs, by name. compared: those that pandas does, too."""

    events: dict[str, int]
    compared: tuple[str, ...]
    users: int
    items: int
    bots: int


FULL = Size({"one": 10**6, "ten": 10**7, "thirty": 3 * 10**7}, ("one", "ten"), 10**6, 100_000, 5)
QUICK = Size({"one": 2000}, ("one",), 500, 300, 1)


def main() -> None:
    given = arguments(__doc__)
    size, rates, lines = QUICK if given.quick else FULL, matmul_gflops(given.turns), []
    took: dict[str, Turns] = {}
    with TemporaryDirectory() as name:
        folder = Path(name)
        write_items(folder / "items", size.items)
        write_log(folder / "awake", QUICK.events["one"], size)
        for log, events in size.events.items():
            write_log(folder / log, events, size)
            both = compare(folder, log, log in size.compared, given.turns, given.quick)
            took[log] = both["ours"]
            if "pandas" in both:
                lines += beside_pandas(folder, log, events, both)
    if len(size.events) > 2:
        lines.append(growth(size, took))
    tell("preprocess", lines, [], rates + matmul_gflops(given.turns), given.quick)


def compare(folder: Path, log: str, peer: bool, turns: int, quick: bool) -> dict[str, Turns]:
    with ExitStack() as stack:
        contenders = []
        for name in ("ours", *(["pandas"] if peer else [])):
            command: list[str | Path] = [sys.executable, HERE / "preprocess_sides.py", name, folder]
            side = stack.enter_context(Side(f"{name}-{log}", command, folder, CORES if name == "pandas" else None))
            contenders.append(Contender(name, side, lambda _: {"log": log}, {"log": "awake"}))
        return alternate(contenders, turns, quick)


def beside_pandas(folder: Path, log: str, events: int, both: dict[str, Turns]) -> list[Line]:
    ours, theirs = folder / "ours" / log, folder / "pandas" / log
    same = alike(ours, theirs)
    what = f"pandas, one process; {events:,} events"
    memory = Line(f"{what}, peak MiB", both["ours"].peak_mib, both["pandas"].peak_mib, MEMORY_GOAL, same)
    return [in_seconds(what, both["ours"], both["pandas"], PANDAS_GOAL, same), memory]


def growth(size: Size, took: dict[str, Turns]) -> Line:
    """Seconds per million events of the largest log, beside those that each million adds between the smallest and the next: what is there for any log is in neither."""
    first, second, last = size.events
    seconds = {log: np.array(took[log].seconds) for log in size.events}

    def between(one: str, other: str) -> list[float]:
        more = (size.events[other] - size.events[one]) / 1e6
        return [float(s) for s in (seconds[other] - seconds[one]) / more]

    what = f"seconds a million events more, from {size.events[second]:,} to {size.events[last]:,}, beside from {size.events[first]:,} to {size.events[second]:,}"
    return Line(what, between(second, last), between(first, second), FLAT_GOAL, True)


def alike(ours: Path, theirs: Path) -> bool:
    """Whether events are in the same splits, and items have the same tokens."""

    def events(lake: Path) -> pa.Table:
        columns = ["user_id", "item_id", "order_key", "split"]
        return table_of(lake, "interactions", columns).sort_by([(c, "ascending") for c in columns[:3]])

    def texts(lake: Path) -> pa.Table:
        return table_of(lake, "items", ["item_id", "text", "text_hash", "token_ids"]).sort_by("item_id")

    def reasons(lake: Path) -> list[dict]:
        found = table_of(lake, "rejects", ["reason"])["reason"]
        return sorted(pc.value_counts(found).to_pylist(), key=lambda row: row["values"])

    def people(lake: Path) -> pa.Table:
        return table_of(lake, "users", ["user_id", "events"]).sort_by("user_id")

    return all(part(ours) == part(theirs) for part in (events, texts, reasons, people))


def table_of(lake: Path, table: str, columns: list[str]) -> pa.Table:
    """Columns of a table in one chunk each and one type, whoever wrote them."""
    found = ds.dataset(lake / table / f"run_date={DATE}").to_table(columns=columns).combine_chunks()
    types = {pa.large_string(): pa.string(), pa.large_list(pa.int32()): pa.list_(pa.int32())}
    fields = [
        pa.field(f.name, pa.list_(pa.int32()) if f.name == "token_ids" else types.get(f.type, f.type))
        for f in found.schema
    ]
    return found.cast(pa.schema(fields))


def write_items(folder: Path, items: int) -> None:
    """(item_id, title, description) of made-up words, Zipf's law among them, too; titles are told apart by a number."""
    rng = np.random.default_rng(1)
    letters = np.array(list("etaoinshrdlucmfw"))
    words = np.array(["".join(letters[rng.integers(16, size=n)]) for n in rng.integers(2, 9, size=5000)])
    share = 1 / np.arange(1, len(words) + 1)
    lengths = rng.integers(5, 30, size=items)
    drawn = np.split(words[rng.choice(len(words), lengths.sum(), p=share / share.sum())], np.cumsum(lengths)[:-1])
    titles = [f"{' '.join(text[:3])} {number}" for number, text in enumerate(drawn)]
    described = [f"<p>{' '.join(text)}.</p>" for text in drawn]
    write(pa.table({"item_id": np.arange(items), "title": titles, "description": described}), folder)


def write_log(folder: Path, events: int, size: Size) -> None:
    """(user_id, item_id, time), in the order of time, which no two events share; bots come on top of the users and are spread over all of it."""
    rng = np.random.default_rng(2)
    activity = np.cumsum(rng.pareto(1.5, size.users) + 1)
    popularity = np.cumsum(1 / np.arange(1, size.items + 1) ** 0.8)
    bots = min(size.bots * BOT_EVENTS, events // 4)
    for number, start in enumerate(range(0, events, CHUNK)):
        rows = min(CHUNK, events - start)
        users = np.searchsorted(activity, rng.random(rows) * activity[-1])
        items = np.searchsorted(popularity, rng.random(rows) * popularity[-1])
        bot = rng.random(rows) < bots / events
        users[bot] = size.users + rng.integers(size.bots, size=bot.sum())
        again = np.flatnonzero(rng.random(rows) < 0.05)
        earlier = np.maximum(again - rng.integers(1, 1000, size=len(again)), 0)
        users[again], items[again] = users[earlier], items[earlier]
        items[rng.random(rows) < 0.001] += size.items
        missing = pa.array(rng.random(rows) < 0.001)
        item = pc.if_else(missing, None, pa.array(items, pa.int64()))
        table = pa.table({"user_id": users.astype(np.int64), "item_id": item, "time": FIRST + start + np.arange(rows)})
        folder.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, folder / f"part-{number:05}.parquet")


def write(table: pa.Table, folder: Path) -> None:
    folder.mkdir(parents=True)
    rows = max(1, -(-len(table) // FILES))
    for number in range(FILES):
        pq.write_table(table.slice(number * rows, rows), folder / f"part-{number:05}.parquet")


if __name__ == "__main__":
    main()
