"""How well `recspark search` finds things in a lake: python tools/search_quality.py --config conf/demo.yaml

Two tables in Markdown: how often an item's title, as a query, finds that item first, over items drawn by a keyed hash of the id
among those whose text is no other item's; and the first five items for each query of a CSV file (columns query_id, query).
"""

import argparse
import csv
import datetime
import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path

import numpy as np

from recspark.data.text import normalise
from recspark.lookup import Lookup, open_lake
from recspark.models.model_folder import content_hash
from recspark.search import Index, Scores, best, model_of, open_index, products
from recspark.show import titles_of
from recspark.tables import BASE_TEXT_VECTORS, ITEMS, TEXT_VECTORS, USER_VECTORS

AT_ONCE = 50  # queries whose scores over the catalogue are held
TOP = 5

Way = Callable[[Index, list[str]], Scores]


def main() -> None:
    given = arguments()
    index = open_index(open_lake(given.config, given.overrides, given.run_date, TEXT_VECTORS))
    names, places = drawn(index, given)
    print(f"{len(names)} items of {len(index.catalogue)}, run date {index.lake.run_date}, seed {given.seed}\n")
    print("| scores | first | among five |\n|---|---|---|")
    for name, scored, way in ways(index, given):
        found = np.concatenate([first_places(way(scored, names[s]), places[s]) for s in chunks(len(names))])
        print(f"| {name} | {(found == 0).mean():.1%} | {(found < TOP).mean():.1%} |", flush=True)
    if given.queries:
        print_lists(index, given.queries, given.bm25_weight)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True, help="the deployment's YAML")
    parser.add_argument("--run-date", type=datetime.date.fromisoformat, help="YYYY-MM-DD; the newest")
    parser.add_argument("--set", action="append", default=[], metavar="a.b=c", dest="overrides")
    parser.add_argument("--items", type=int, default=500, help="items whose titles are asked for")
    parser.add_argument(
        "--without", default="", help=r"a pattern that titles are asked for without, such as ' \(\d+\)$'"
    )
    parser.add_argument("--seed", type=int, default=42, help="key of the hash that draws items and users")
    parser.add_argument("--bm25-weight", type=float, default=0.3)
    parser.add_argument("--personal-weight", type=float, default=0.05)
    parser.add_argument("--base", type=Path, help="the encoder as it came (encoder.path), to be judged beside")
    parser.add_argument("--queries", type=Path, help="CSV with columns query_id, query: print their lists")
    return parser.parse_args()


def ways(index: Index, given: argparse.Namespace) -> Iterator[tuple[str, Index, Way]]:
    """A name, the vectors and the way of scoring of each row of the table."""
    weight = given.bm25_weight
    indexes = [("fine-tuned", index)]
    if given.base:
        indexes.append(("as it came", Index(index.lake, BASE_TEXT_VECTORS, given.base, index.max_length, index.prefix)))
        if model_of(Lookup(index.lake, BASE_TEXT_VECTORS)) != content_hash(given.base):
            raise SystemExit(f"base_text_vectors were not made with {given.base}")
    for name, one in indexes:
        yield f"{name}: cosine", one, lambda i, queries: i.scores(queries)
        yield f"{name}: cosine of centred vectors", one, centred
        yield f"{name}: cosine + {weight} BM25", one, lambda i, queries: i.scores(queries, weight)
    yield "BM25 alone", index, lambda i, queries: i.word_scores(queries, 1)
    users = by_hash([str(u) for u in Lookup(index.lake, USER_VECTORS).dataset.to_table(["user_id"])["user_id"]], given)
    one_after_another = cycle(users)
    yield (
        f"fine-tuned: cosine + {given.personal_weight} preference of users drawn by hash",
        index,
        lambda i, queries: i.scores(queries) + given.personal_weight * i.preferences(next(one_after_another)),
    )


def drawn(index: Index, given: argparse.Namespace) -> tuple[list[str], list[int]]:
    """Titles and positions of the items whose names come first by hash, among those of a text of their own."""
    ids, hashes = (index.catalogue[name].to_pylist() for name in ("item_id", "text_hash"))
    copies = Counter(hashes)
    alone = [place for place, text in enumerate(hashes) if copies[text] == 1]
    chosen = sorted(alone, key=lambda place: keyed(ids[place], given.seed))[: given.items]
    titles = Lookup(index.lake, ITEMS).with_ids("item_id", [ids[place] for place in chosen], ["title"])
    names = [titles[ids[place]]["title"] for place in chosen]
    return [normalise(re.sub(given.without, "", name) if given.without else name) for name in names], chosen


def by_hash(ids: list[str], given: argparse.Namespace) -> list[str]:
    return sorted(ids, key=lambda one: keyed(one, given.seed))


def keyed(which: object, seed: int) -> bytes:
    return hashlib.sha256(f"{seed} search {which}".encode()).digest()


def chunks(count: int) -> Iterator[slice]:
    return (slice(start, start + AT_ONCE) for start in range(0, count, AT_ONCE))


def first_places(scores: Scores, places: list[int]) -> np.ndarray:
    """(Q,) how many items stand before each query's own; ties go by position, as in a list."""
    own = scores.astype(np.float32)[np.arange(len(places)), places][:, None]
    tied = (scores.astype(np.float32) == own) & (np.arange(scores.shape[1]) < np.array(places)[:, None])
    return ((scores.astype(np.float32) > own) | tied).sum(1)


def centred(index: Index, queries: list[str]) -> Scores:
    """(Q, M) cosines after the catalogue's mean is taken from items and queries."""
    size = len(Lookup(index.lake, index.table).dataset.head(1)["vector"][0])
    items = products(
        Lookup(index.lake, index.table), "text_hash", index.catalogue["text_hash"], np.eye(size, dtype=np.float32)
    ).T
    given, mean = index.vectors(queries), items.mean(0)
    return unit(given - mean) @ unit(items - mean).T


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def print_lists(index: Index, path: Path, weight: float) -> None:
    """A row a query: the items by cosine alone, and with the words."""
    with path.open(encoding="utf-8", newline="") as stream:
        queries = [normalise(row["query"]) for row in csv.DictReader(stream)]
    print(f"\n| query | by cosine | with {weight} BM25 |\n|---|---|---|")
    for query, *scores in zip(queries, index.scores(queries), index.scores(queries, weight), strict=True):
        lists = []
        for row in scores:
            ids = [index.catalogue["item_id"][int(place)].as_py() for place in best(row, TOP)]
            lists.append("; ".join(titles_of(Lookup(index.lake, ITEMS), ids)[i] for i in ids))
        print(f"| {query} | {' | '.join(lists)} |")


if __name__ == "__main__":
    main()
