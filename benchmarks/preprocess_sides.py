"""The sides of benchmarks/preprocess.py: `preprocess_sides.py ours | pandas FOLDER`. A request: log, the raw log of that name in the folder."""

import datetime
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from serve import Keep, Work, serve

DATE = "2026-01-02"
ROOT = Path(__file__).parent.parent
TEXT, MAX_LENGTH, TEST = "{title}. {description}", 32, 0.2


def ours(folder: Path) -> tuple[Work, Keep | None]:
    """The stage preprocess."""
    from topk_sides import new_session

    from recspark import config
    from recspark.lake import Lake
    from recspark.pipeline import Deployment
    from recspark.stages import preprocess

    spark = new_session()

    def work(log: str) -> None:
        lake = Lake(str(folder / "ours" / log), datetime.date.fromisoformat(DATE))
        settings = {
            "lake": lake.root,
            "encoder": {"path": str(ROOT / ".data" / "minilm"), "max_length": MAX_LENGTH},
            "preprocess": {
                "interactions": {"path": str(folder / log), "columns": {"timestamp": "time"}},
                "items": {"path": str(folder / "items"), "text": TEXT},
                "split": {"kind": "temporal", "test": TEST},
            },
        }
        preprocess.run(spark, lake, config.parse(settings, Deployment, [], "benchmark"))

    return work, None


def by_pandas(folder: Path) -> tuple[Work, Keep | None]:
    """The same steps on frames in memory."""
    from transformers import AutoTokenizer

    from recspark.data.text import filled, parse_template, text_hash, tokenise

    tokenizer = AutoTokenizer.from_pretrained(ROOT / ".data" / "minilm")
    template, title = parse_template(TEXT), parse_template("{title}")

    def items() -> pd.DataFrame:
        raw = pd.read_parquet(folder / "items")
        texts = [filled(template, fields) for fields in zip(raw.title, raw.description, strict=True)]
        titles = [filled(title, [found]) for found in raw.title]
        hashes, tokens = [text_hash(text) for text in texts], tokenise(tokenizer, texts, MAX_LENGTH)
        return pd.DataFrame(
            {"item_id": raw.item_id, "title": titles, "text": texts, "text_hash": hashes, "token_ids": tokens}
        )

    def work(log: str) -> None:
        catalogue, events = items(), pd.read_parquet(folder / log)
        unknown = ~events.item_id.isin(catalogue.item_id)
        reason = np.select([events.item_id.isna(), unknown], ["null_item_id", "unknown_item"], "")
        rejects = pd.DataFrame(
            {
                "reason": reason[reason != ""],
                "row": [json.dumps(row) for row in events[reason != ""].to_dict("records")],
            }
        )
        events = events[reason == ""].astype({"item_id": np.int64})
        events["order_key"] = events.pop("time") * 1_000_000
        events = events.drop_duplicates().sort_values("order_key")
        last = events.order_key.iloc[len(events) - round(len(events) * TEST) - 1]
        events["split"] = np.where(events.order_key <= last, "train", "test")
        events = events.drop_duplicates(["user_id", "item_id", "split"], keep="last")
        users = (events.split == "train").groupby(events.user_id).sum().astype(np.int64).rename("events").reset_index()
        for name, frame in {"items": catalogue, "interactions": events, "users": users, "rejects": rejects}.items():
            place = folder / "pandas" / log / name / f"run_date={DATE}"
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir(parents=True)
            frame.to_parquet(place / "part-0.parquet", index=False)

    return work, None


if __name__ == "__main__":
    side, place = {"ours": ours, "pandas": by_pandas}[sys.argv[1]], Path(sys.argv[2])
    serve(lambda: side(place))
