"""The splits of MovieLens-100K that published tables use, as Parquet: protocol_a and protocol_c (docs/quality.md says which they are)."""

from pathlib import Path

import numpy as np
import pandas as pd

COLUMNS = ["user_id", "item_id", "rating", "timestamp"]


def write_splits(movielens: Path, folder: Path) -> None:
    """protocol_a.parquet and protocol_c.parquet: user_id, item_id, rating, timestamp, split, from the package's ml-100k.inter."""
    ratings = pd.read_csv(movielens / "ml-100k.inter", sep="\t").set_axis(COLUMNS, axis=1)
    folder.mkdir(parents=True, exist_ok=True)
    stratified = by_item(ratings)
    stratified.to_parquet(folder / "protocol_a.parquet", index=False)
    masked_items(stratified).to_parquet(folder / "protocol_c.parquet", index=False)


def by_item(ratings: pd.DataFrame, share: float = 0.75, seed: int = 42) -> pd.DataFrame:
    """Of each item's n ratings, round(share · n) are train (half to even): those of the smallest uniform numbers, one a rating in
    the file's order. Microsoft recommenders' python_stratified_split with filter_by="item"."""
    drawn = ratings.assign(drawn=np.random.RandomState(seed).rand(len(ratings)))
    items = drawn.groupby("item_id").drawn
    train = items.rank(method="first") <= (share * items.transform("size")).round()
    return ratings.assign(split=np.where(train, "train", "test"))


def masked_items(stratified: pd.DataFrame, share: float = 0.15, least: int = 5, seed: int = 7) -> pd.DataFrame:
    """A share of the items with `least` ratings or more: their train ratings are masked, theirs are the only test ratings left."""
    sizes = stratified.groupby("item_id").size()
    known = sizes.index[sizes >= least].to_numpy()
    cold = stratified.item_id.isin(np.random.RandomState(seed).choice(known, round(share * len(known)), replace=False))
    split = stratified.split.where(~cold | (stratified.split == "test"), "masked")
    return stratified.assign(split=split)[cold | (split == "train")]
