"""A small lake of two run dates, as the pipeline leaves it: three users, six items, every number to be worked out by hand.

Item vectors are (0.6, 0) for item a down to (0.1, 0) for item f and every user's is (1, 0), so a list is a, b, c, … less what
the user has had: u1 had a (train) and b chose later; u2 had b (train) and c (masked); u3 nothing.
"""

import datetime
from pathlib import Path
from typing import Any

from recspark import config
from recspark.lake import Lake
from recspark.pipeline import Deployment
from recspark.tables import (
    CANDIDATES,
    INTERACTIONS,
    ITEM_VECTORS,
    ITEMS,
    METRICS,
    RECOMMENDATIONS,
    REJECTS,
    TRAINING_LOG,
    USER_VECTORS,
    USERS,
)
from tests.table_rows import write

YESTERDAY, TODAY = datetime.date(2026, 1, 1), datetime.date(2026, 1, 2)
TOP_K = 3
ITEM_IDS = "abcdef"
SCRIPT = "<script>alert('gotcha')</script> & \"Sons\""
HEBREW = "שלום 2: Reloaded"
TITLES = [
    SCRIPT,
    HEBREW,
    "🎬 $x^2$ [bold]Über[/bold]",
    "A title that goes on " + "and on " * 30,
    "Drama, plainly",
    "Eve\x1b[2Jnt",
]
GENRES = ["Action Sci-Fi", "Action", "Drama", None, "Drama", "Sci-Fi"]
LISTS = {"u1": "bcd", "u2": "ade", "u3": "abc"}
LISTS_BEFORE = {"u1": "bce", "u2": "ade", "u4": "abc"}
EVENTS = [("u1", "a", "train"), ("u1", "c", "test"), ("u2", "b", "train"), ("u2", "c", "masked")]

Rows = list[tuple]


def score(item: str) -> float:
    return (6 - ITEM_IDS.index(item)) / 10


def list_rows(lists: dict[str, str], *more: Any) -> Rows:
    """(user, rank, item, score, …) of lists written as words."""
    return [
        (user, rank, item, score(item), *more) for user, items in lists.items() for rank, item in enumerate(items, 1)
    ]


def metric_rows(full: float) -> Rows:
    values = {"popularity": 0.10, "als": 0.20, "text_before": 0.12, "text_after": 0.15, "full": full}
    ndcg = [(model, "all", "ndcg", 10, value, value - 0.02, value + 0.02, 3) for model, value in values.items()]
    return [
        *ndcg,
        ("full", "all", "coverage", 10, 0.5, None, None, 3),
        ("full", "all", "ndcg", 20, full, full, full, 3),
    ]


def published_lake(folder: Path) -> Lake:
    """The lake in a folder, at today's run date."""
    before, today = (Lake(str(folder / "lake"), date) for date in (YESTERDAY, TODAY))
    for lake, lists, full in ((before, LISTS_BEFORE, 0.25), (today, LISTS, 0.30)):
        write(
            lake,
            ITEMS,
            [
                (
                    item,
                    title,
                    f"{title}. {genres}",
                    f"hash-{item}",
                    [1, 2, 3][: 1 + n % 3],
                    {"genres": genres} if genres else {},
                )
                for n, (item, title, genres) in enumerate(zip(ITEM_IDS, TITLES, GENRES, strict=True))
            ],
        )
        write(lake, RECOMMENDATIONS, list_rows(lists, "model", None, None))
        write(lake, METRICS, metric_rows(full))
    write(today, CANDIDATES, list_rows(LISTS))
    write(
        today,
        INTERACTIONS,
        [
            (user, item, n, datetime.datetime(2025, 12, 1 + n, 12), 4.5, 1.0, None, split)
            for n, (user, item, split) in enumerate(EVENTS)
        ],
    )
    write(today, USERS, [("u1", 1, {"age": "33"}), ("u2", 1, None), ("u3", 0, None)])
    write(
        today,
        REJECTS,
        [("items", "no_text", '{"item_id":"x"}')]
        + [("interactions", "null_item_id", f'{{"n":{n}}}') for n in range(3)],
    )
    write(before, REJECTS, [("items", "no_text", '{"item_id":"x"}')] * 2)
    write(today, USER_VECTORS, [(user, [1.0, 0.0], 1, "model") for user in LISTS])
    write(
        today,
        ITEM_VECTORS,
        [
            (
                item,
                [score(item), 0.0],
                [score(item), float(item in "ab")],
                sum(e[1] == item and e[2] == "train" for e in EVENTS),
                1.0,
                f"hash-{item}",
                "model",
            )
            for item in ITEM_IDS
        ],
    )
    write(today, TRAINING_LOG, [(0, None, 0.5, 0, 0.0), (1, 0.4, 0.3, 6, 1.5), (2, 0.2, 0.35, 6, 1.5)])
    return today


def deployment(lake: Lake, *overrides: str, encoder: str = "none") -> Deployment:
    """Settings of a deployment over the lake."""
    raw = {
        "lake": lake.root,
        "encoder": {"path": encoder},
        "preprocess": {
            "interactions": {"path": "none"},
            "split": {"kind": "random"},
            "items": {"path": "none", "text": "{title}"},
        },
        "candidates": {"top_k": TOP_K},
        "publish": {"guardrails": {"users_lost": 0.5}},  # of yesterday's three users, one has gone
    }
    return config.parse(raw, Deployment, list(overrides))
