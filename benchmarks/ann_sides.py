"""The sides of benchmarks/ann.py: `ann_sides.py index | exact | faiss FOLDER RECALL`; `ann_sides.py prepare FOLDER TOP_K WORLD...` makes the lakes.

A request: world, the lake, or for FAISS the arrays, of that name in the folder.
"""

import datetime
import json
import sys
import time
from pathlib import Path

import numpy as np
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from serve import Keep, Work, serve
from topk_sides import new_session

from recspark import config
from recspark.lake import Lake
from recspark.pipeline import Deployment
from recspark.stages import candidates, index
from recspark.stages.probed_lists import PROBES
from recspark.tables import INDEX_LISTS, INTERACTIONS, ITEM_VECTORS, USER_VECTORS

ROOT = Path(__file__).parent.parent
DATE = datetime.date(2026, 1, 2)
SAMPLE = 1000  # users on whom FAISS's number of lists is chosen, as many as ours has


def settings(folder: Path, *more: str) -> Deployment:
    top_k = (folder / "top_k").read_text()
    overrides = [f"lake={folder}", f"candidates.top_k={top_k}", *more]
    return config.load(ROOT / "conf" / "demo.yaml", Deployment, overrides)


def prepare(folder: Path, top_k: int, worlds: list[str]) -> None:
    """The tables that index and candidates read, with nothing seen; and the index. Prints what it is in each world, as JSON."""
    (folder / "top_k").write_text(str(top_k))
    spark, told = new_session(), {}
    for world in worlds:
        lake = Lake(str(folder / "index" / world), DATE)
        items, users = (spark.read.parquet(str(folder / world / name)) for name in ("items", "users"))
        model, one = F.lit("model").alias("model_hash"), F.lit(1).cast("bigint")
        text, exposure = F.lit("text").alias("text_hash"), F.lit(1.0).cast("float").alias("exposure")
        vector = F.col("vector")
        lake.write(
            items.select(
                F.col("id").alias("item_id"),
                vector,
                vector.alias("prior"),
                one.alias("interactions"),
                exposure,
                text,
                model,
            ),
            ITEM_VECTORS,
        )
        lake.write(users.select(F.col("id").alias("user_id"), vector, one.alias("events"), model), USER_VECTORS)
        lake.write(nothing_seen(spark), INTERACTIONS)
        began = time.perf_counter()
        index.run(spark, lake, settings(folder, "index={}"))
        seconds = time.perf_counter() - began
        about = lake.manifest(INDEX_LISTS)
        kept = {"lists": about["rows"], "index_seconds": round(seconds, 1)}
        told[world] = kept | {name: about[name] for name in (PROBES, "recall", "share")}
    print(json.dumps(told))


def nothing_seen(spark: SparkSession) -> DataFrame:
    return spark.createDataFrame(
        [], ", ".join(f"{c.name} {'bigint' if c.type == 'id' else c.type}" for c in INTERACTIONS.columns)
    )


def lists(name: str, folder: Path) -> tuple[Work, Keep | None]:
    """The stage candidates, with the index or without."""
    spark = new_session()
    wanted = settings(folder, *(["index={}"] if name == "index" else []))

    def work(world: str) -> None:
        candidates.run(spark, Lake(str(folder / name / world), DATE), wanted)

    return work, None


def faiss_side(folder: Path, recall: float) -> tuple[Work, Keep | None]:
    """An inverted file of flat vectors with as many lists as the index; the fewest are probed that reach the recall, by halving."""
    import faiss

    top_k = int((folder / "top_k").read_text())
    items, users = (np.load(folder / "whole" / f"{name}.npy") for name in ("items", "users"))
    count = round(4 * len(items) ** 0.5)
    found = faiss.IndexIVFFlat(faiss.IndexFlatIP(items.shape[1]), items.shape[1], count, faiss.METRIC_INNER_PRODUCT)
    found.train(items[np.random.default_rng(0).permutation(len(items))[: 64 * count]])
    found.add(items)
    flat = faiss.IndexFlatIP(items.shape[1])
    flat.add(items)
    exact = flat.search(users[:SAMPLE], top_k)[1]
    low, high = 0, count  # too few, enough
    while high - low > 1:
        found.nprobe = (low + high) // 2
        lists = found.search(users[:SAMPLE], top_k)[1]
        held = np.mean([len(np.intersect1d(a, b)) for a, b in zip(lists, exact, strict=True)])
        low, high = (low, found.nprobe) if held >= recall * top_k else (found.nprobe, high)
    found.nprobe = high
    (folder / "faiss.json").write_text(json.dumps({"lists": count, "probes": high}))

    def work(world: str) -> np.ndarray:
        return found.search(users if world == "whole" else users[:10], top_k)[1]

    def keep(positions: np.ndarray, world: str) -> None:
        if world == "whole":
            np.save(folder / "faiss.npy", positions)

    return work, keep


if __name__ == "__main__":
    what, place = sys.argv[1], Path(sys.argv[2])
    if what == "prepare":
        prepare(place, int(sys.argv[3]), sys.argv[4:])
    elif what == "faiss":
        serve(lambda: faiss_side(place, float(sys.argv[3])))
    else:
        serve(lambda: lists(what, place))
