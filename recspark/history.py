"""`recspark history | lineage | vacuum`: what nights a lake holds, what a table was made from, and what may go; without Spark."""

import datetime
from typing import Any

from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from recspark.errors import UserError
from recspark.lake import Lake
from recspark.lake.nights import Input, Part, Place, dates, part_at, parts, plan, remove
from recspark.lake.places import VERSIONS
from recspark.lookup import lake_of
from recspark.show import grid
from recspark.stages.versions import RETRIEVER_VERSION
from recspark.tables import CANDIDATES, RECOMMENDATIONS, TABLES


def show_history(config_path: str, overrides: list[str], top: int) -> None:
    """Print the nights, the newest first: what was published, by which version, how long it took."""
    lake, console = lake_of(config_path, overrides), Console(highlight=False)
    found = parts(lake)
    nights = list(reversed(dates(found)))
    count = "1 night" if len(nights) == 1 else f"{len(nights)} nights"
    console.print(Text.assemble((f"{count}  ", "bold"), (lake.root, "dim")))
    if not nights:
        return
    numbers = ("tables", "list rows", "items", "seconds")
    table = grid(
        ("run date", "left"),
        ("written", "left"),
        *((n, "number") for n in numbers),
        ("retriever", "text"),
        ("", "left"),
    )
    for date in nights[:top]:
        table.add_row(*night_row(lake, date, [p for p in found if p.place.date == date]))
    console.print(table)
    if len(nights) > top:
        console.print(Text(f"{len(nights) - top} more (--top)", "dim"))


def night_row(lake: Lake, date: datetime.date, found: list[Part]) -> list[Text]:
    tables = {part.place.name: part.manifest for part in found if part.place.name in TABLES}
    lists = tables.get(RECOMMENDATIONS.name)
    seconds = sum(r["seconds"] for r in Lake(lake.root, date).stage_records().values())
    version = (tables.get("item_vectors") or {}).get(RETRIEVER_VERSION) or ""
    written = max((m["written_at"] for m in tables.values()), default="")
    rows = [lists["rows"] if lists else None, (tables.get("items") or {}).get("rows")]
    cells = ["" if n is None else f"{n:,}" for n in (len(tables), *rows, round(seconds))]
    state = "" if lists else ("not published" if CANDIDATES.name in tables else "unfinished")
    return [
        Text(str(date)),
        Text(written[:16].replace("T", " "), "dim"),
        *map(Text, cells),
        Text(version),
        Text(state, "yellow"),
    ]


def show_lineage(config_path: str, overrides: list[str], table: str, run_date: datetime.date | None) -> None:
    """Print what a table of a run date was made from, and these in turn, with whether each is still what it was.

    Raises UserError if the table is unknown, or has no such date.
    """
    lake, console = lake_of(config_path, overrides), Console(highlight=False)
    names = sorted(TABLES)
    if table not in names:
        raise UserError(f"no table is called {table}; tables are {', '.join(names)}")
    there = [date for date in lake.run_dates(TABLES[table]) if lake.has(TABLES[table], date)]
    date = run_date or (there[-1] if there else None)
    part = part_at(lake, Place(table, f"run_date={date}")) if date else None
    if part is None:
        raise UserError(
            f"table {table} of run date {run_date or 'any'} is not in the lake {lake.root}; "
            + (f"it has {', '.join(map(str, there))}" if there else "run the pipeline first (recspark run)")
        )
    tree = Tree(named(part.place, part.manifest), guide_style="dim")
    grow(lake, tree, part, {part.place})
    console.print(tree)


def grow(lake: Lake, tree: Tree, part: Part, told: set[Place]) -> None:
    """Add what a part was made from; what has been told already, by its name alone."""
    for given in part.inputs:
        now = part_at(lake, given.place)
        if given.place in told:
            tree.add(Text.assemble(given.place.path, (" as above", "dim")))
            continue
        told.add(given.place)
        branch = tree.add(Text.assemble(named(given.place, now.manifest if now else {}), *state_of(given, now)))
        if now is not None and now.fingerprint == given.fingerprint:
            grow(lake, branch, now, told)


def named(place: Place, manifest: dict[str, Any]) -> Text:
    about = [f"{manifest['rows']:,} rows"] if manifest.get("rows") is not None else []
    about += (
        [f"{manifest['stage']} {manifest['written_at'][:16].replace('T', ' ')}, release {manifest['code_version']}"]
        if manifest.get("stage")
        else []
    )
    return Text.assemble((place.path, "bold"), (f"  {', '.join(about)}" if about else "", "dim"))


def state_of(given: Input, now: Part | None) -> list[tuple[str, str]]:
    if now is None:
        return [("  is no longer there", "yellow")]
    return (
        [] if now.fingerprint == given.fingerprint else [("  has been made anew since, with other content", "yellow")]
    )


def vacuum(
    config_path: str, overrides: list[str], keep: int | None, days: int | None, delete: bool, today: datetime.date
) -> None:
    """Print what would go, or remove it. keep: so many newest dates stay; days: dates not older than that stay.

    Raises UserError unless one of the two is given.
    """
    if (keep is None) == (days is None):
        raise UserError(
            "vacuum needs one of --keep N, the newest dates that stay, and --days N, the age up to which they stay"
        )
    lake, console = lake_of(config_path, overrides), Console(highlight=False)
    nights = dates(parts(lake))
    if not nights:
        raise UserError(f"the lake {lake.root} holds no night; there is nothing to keep or to remove")
    first = nights[-keep:][0] if keep else today - datetime.timedelta(days=days or 0)
    if first > nights[-1]:
        raise UserError(f"nothing would stay: the newest of {len(nights)} nights is {nights[-1]}; keep one at least")
    planned = (remove if delete else plan)(lake, lambda date: date >= first)
    did = "removed" if delete else "would remove"
    gone, count = sorted({part.place.date for part in planned.goes}), len(planned.goes)
    beside = set(planned.beside) - {f"{VERSIONS}/{part.place.path}" for part in planned.goes}
    what = "1 table or model" if count == 1 else f"{count} tables and models"
    of = "1 date" if len(gone) == 1 else f"{len(gone)} dates"
    span = f", {' to '.join(str(d) for d in sorted({gone[0], gone[-1]}))}" if gone else ""
    console.print(Text(f"{did} {what} of {of}{span}, and {len(beside)} folders beside", "bold"))
    for part, why in planned.stays:
        console.print(Text.assemble(f"  {part.place.path} stays ", (f"for {why}", "dim")))
    if not delete and (planned.goes or planned.beside):
        console.print(Text("nothing was removed; --delete does it", "dim"))
