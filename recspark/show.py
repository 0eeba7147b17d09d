"""`recspark show`: what a person would want to see of a user or of an item, in a terminal."""

import datetime
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table as Grid
from rich.text import Text

from recspark.errors import UserError
from recspark.lake import Lake
from recspark.lookup import Lookup, open_lake
from recspark.tables import INTERACTIONS, ITEM_VECTORS, ITEMS, RECOMMENDATIONS, USERS

LONGEST_ID = 40  # characters of an id; a UUID has 36
LONGEST_TEXT = 600  # characters of an item's text that are printed
SIDE_BY_SIDE = 100  # columns of terminal from which two lists stand beside each other

Rows = list[dict[str, Any]]


def user(config_path: str, run_date: datetime.date | None, overrides: list[str], user_id: str, top: int) -> None:
    """Print a user's newest `top` events and first `top` recommendations, of the given or the newest published run date.

    Raises UserError for an unknown user, with ids near it, and for missing tables.
    """
    lake = open_lake(config_path, overrides, run_date, RECOMMENDATIONS)
    interactions, items = Lookup(lake, INTERACTIONS), Lookup(lake, ITEMS)
    who = Lookup(lake, USERS).known_id("user_id", user_id)
    about = Lookup(lake, USERS).with_id("user_id", who, ["attributes"])[0]

    events = interactions.with_id("user_id", who, ["item_id", "order_key", "event_time", "rating", "split"])
    listed = sorted(
        Lookup(lake, RECOMMENDATIONS).with_id("user_id", who, ["rank", "item_id", "score"]),
        key=lambda r: r["rank"],
    )
    past = sorted(
        (e for e in events if e["split"] != "test"),
        key=lambda e: (e["order_key"], str(e["item_id"])),
        reverse=True,
    )
    later = {e["item_id"] for e in events if e["split"] == "test"}
    shown = [row["item_id"] for row in (*past[:top], *listed[:top])]
    titles = titles_of(items, shown)

    console = Console(highlight=False)
    console.print(heading(f"User {plain(who)}", lake), no_wrap=True, overflow="ellipsis")
    if about["attributes"]:
        console.print(Text(", ".join(f"{name} {plain(value)}" for name, value in about["attributes"]), "dim"))
    console.print(caption("History, newest first", len(past), top))
    console.print(history_table(past[:top], titles))
    console.print(caption("Recommended", len(listed), top))
    console.print(list_table(listed[:top], titles, later))
    console.print(Text(afterwards(listed, later), "dim"))


def item(config_path: str, run_date: datetime.date | None, overrides: list[str], item_id: str, top: int) -> None:
    """Print an item's text, what is known of it, and the `top` items nearest to it by text and by text and events.

    Raises UserError for an unknown item, with ids near it, and for missing tables.
    """
    lake = open_lake(config_path, overrides, run_date, ITEM_VECTORS)
    items, vectors = Lookup(lake, ITEMS), Lookup(lake, ITEM_VECTORS)
    which = items.known_id("item_id", item_id)
    about = items.with_id("item_id", which, ["title", "text", "token_ids", "attributes"])[0]
    events = Lookup(lake, INTERACTIONS).counts("split", "item_id", which)
    found = vectors.with_id("item_id", which, ["prior", "vector"])
    if not found:
        raise UserError(
            f"item {item_id} is in the catalogue of run date {lake.run_date} and has no vector yet: the vectors are of a catalogue "
            f"before it; run again from embed (recspark run --run-date {lake.run_date} --from embed)"
        )
    own = found[0]
    near = {name: vectors.nearest(name, np.asarray(own[name], np.float32), top, which) for name in ("prior", "vector")}
    titles = titles_of(items, [i for pairs in near.values() for i, _ in pairs])

    console = Console(highlight=False)
    console.print(heading(f"Item {plain(which)}", lake), no_wrap=True, overflow="ellipsis")
    console.print(facts_table(about, events))
    by_text = Group(Text("Nearest by text", "bold"), near_table(near["prior"], titles))
    by_both = Group(Text("Nearest by text and events", "bold"), near_table(near["vector"], titles))
    console.print(beside(by_text, by_both) if console.width >= SIDE_BY_SIDE else Group(by_text, Text(), by_both))


def titles_of(items: Lookup, ids: Sequence[Any]) -> dict[Any, str]:
    """Titles by item id, cleaned for the terminal; the id stands for a title that is not there."""
    known = items.with_ids("item_id", list(dict.fromkeys(ids)), ["title"])
    return {i: plain(known[i]["title"]) if i in known else f"(item {plain(i)})" for i in ids}


def plain(value: Any) -> str:
    """Text that cannot steer the terminal: control characters, escape sequences among them, become spaces."""
    return "".join(c if c.isprintable() else " " for c in str(value))


def afterwards(listed: Rows, later: set[Any]) -> str:
    """How the list fared against the held-out truth, in a sentence."""
    if not later:
        return "Nothing is held out of this user's events, so nobody knows what was chosen later."
    hits = [row["rank"] for row in listed if row["item_id"] in later]
    found = (
        f"{len(hits)} of them among the {len(listed)} recommended, the first at rank {hits[0]}"
        if hits
        else "none of them recommended"
    )
    return f"Later chose {len(later)} held-out item{'s' if len(later) > 1 else ''}: {found}."


# ---- the look


def heading(what: str, lake: Lake) -> Text:
    return Text.assemble((what, "bold"), ("  ", ""), (f"{lake.run_date}, {lake.root}", "dim"))


def caption(name: str, rows: int, top: int) -> Text:
    return Text.assemble("\n", (name, "bold"), (f"  {min(rows, top)} of {rows}" if rows > top else f"  {rows}", "dim"))


def grid(*headers: tuple[str, str]) -> Grid:
    """An empty table; a header is (name, kind): `text` takes the room that is left and is cut, `number` keeps to the right."""
    table = Grid(box=box.SIMPLE_HEAD, pad_edge=False, header_style="dim", expand=True, show_edge=False)
    for name, kind in headers:
        if kind == "text":
            table.add_column(name, ratio=1, no_wrap=True, overflow="ellipsis")
        else:
            table.add_column(
                name,
                justify="right" if kind == "number" else "left",
                no_wrap=True,
                overflow="ellipsis",
                max_width=LONGEST_ID,
            )
    return table


def history_table(events: Rows, titles: dict[Any, str]) -> RenderableType:
    """A row an event; columns that no event has a value for are left out."""
    if not events:
        return Text("  nothing yet: the list is the average user's", "dim")
    dated, rated = (any(e[name] is not None for e in events) for name in ("event_time", "rating"))
    headers = (
        [("date", "left")] * dated
        + [("title", "text"), ("item", "left")]
        + [("rating", "number")] * rated
        + [("split", "left")]
    )
    table = grid(*headers)
    for event in events:
        date = [Text(f"{event['event_time']:%Y-%m-%d}" if event["event_time"] else "")] * dated
        rating = [Text(f"{event['rating']:g}" if event["rating"] is not None else "")] * rated
        table.add_row(
            *date,
            Text(titles[event["item_id"]]),
            Text(plain(event["item_id"]), "dim"),
            *rating,
            Text(event["split"], "dim"),
        )
    return table


def list_table(listed: Rows, titles: dict[Any, str], later: set[Any]) -> RenderableType:
    """A row an item of the list; a mark where the user chose it later."""
    if not listed:
        return Text("  no list: the user had no vector when the lists were made", "dim")
    table = grid(
        ("rank", "number"),
        ("title", "text"),
        ("item", "left"),
        ("score", "number"),
        *([("chosen later", "left")] if later else []),
    )
    for row in listed:
        chosen = row["item_id"] in later
        cells = [
            Text(str(row["rank"])),
            Text(titles[row["item_id"]], "bold green" if chosen else ""),
            Text(plain(row["item_id"]), "dim"),
            Text(f"{row['score']:.4f}"),
        ]
        table.add_row(*cells, *([Text("✓ yes" if chosen else "", "green")] if later else []))
    return table


def facts_table(about: dict[str, Any], events: Mapping[str, int]) -> Grid:
    """What is known of an item, how many events it has in each split among it: a name and a value a row."""
    counts = ", ".join(f"{n:,} {name}" for name, n in sorted(events.items(), key=lambda pair: (-pair[1], pair[0])))
    text = plain(about["text"])
    long = f"… ({len(text):,} characters)" if len(text) > LONGEST_TEXT else ""
    facts: Iterable[tuple[str, str]] = [
        ("title", plain(about["title"])),
        ("text", text[:LONGEST_TEXT] + long),
        *((name, plain(value)) for name, value in about["attributes"]),
        ("tokens", f"{len(about['token_ids']):,}"),
        (
            "events",
            f"{sum(events.values()):,} ({counts})" if events else "none: a cold item, placed by its text alone",
        ),
    ]
    table = Grid.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True, overflow="ellipsis", max_width=18)
    table.add_column(overflow="fold")
    for name, value in facts:
        table.add_row(Text(plain(name)), Text(value))
    table.add_row()
    return table


def near_table(pairs: Sequence[tuple[Any, float]], titles: dict[Any, str]) -> Grid:
    table = grid(("cosine", "number"), ("title", "text"), ("item", "left"))
    for which, cosine in pairs:
        table.add_row(Text(f"{cosine:.3f}"), Text(titles[which]), Text(plain(which), "dim"))
    return table


def beside(left: RenderableType, right: RenderableType) -> Grid:
    table = Grid.grid(expand=True, padding=(0, 3))
    table.add_column(ratio=1)
    table.add_column(ratio=1)
    table.add_row(left, right)
    return table
