import numpy as np
import pandas as pd
from pyspark.sql import SparkSession

from recspark.data.blocks import Links, from_blocks, to_blocks
from recspark.data.priors import text_prior
from recspark.models.factors import FactorSettings, row_penalty

K, H = 2, 3
SETTINGS = FactorSettings(embedding_size=K, unobserved_weight=0.2, regularization=0.3, frequency_exponent=1.0)


def test_the_map_is_the_weighted_ridge_of_the_met_items_and_places_the_others(spark: SparkSession, tmp_path):
    draw = np.random.default_rng(0)
    texts, vectors = draw.normal(size=(6, H)).astype(np.float32), draw.normal(size=(6, K)).astype(np.float32)
    pairs = pd.DataFrame(
        [(f"u{u}", i, 1.0) for u in range(4) for i in range(5) if u <= i],
        columns=["user_id", "item_id", "weight"],
    )
    links = Links(spark.createDataFrame(pairs), spark.range(6).withColumnRenamed("id", "item_id"), 2, str(tmp_path))

    def table(rows: np.ndarray):
        return spark.createDataFrame(pd.DataFrame({"item_id": range(6), "vector": rows.tolist()}))

    prior = text_prior(table(texts), links, SETTINGS, 5.0, str(tmp_path))
    fitted = prior.fit(to_blocks(table(vectors), links.item_index, "item_id"))

    features = np.hstack([texts - texts.mean(0), np.ones((6, 1))])
    counts = pairs.groupby("item_id").size().reindex(range(5)).to_numpy()
    lam = row_penalty(counts, 4, SETTINGS)
    lam = np.diag(lam / lam.mean())
    left = features[:5].T @ lam @ features[:5] + 5.0 * np.diag([1, 1, 1, 0])
    np.testing.assert_allclose(fitted, np.linalg.solve(left, features[:5].T @ lam @ vectors[:5]), atol=1e-5)

    placed = {r.item_id: r.vector for r in from_blocks(prior.blocks(fitted), links.item_index, "item_id", K).collect()}
    np.testing.assert_allclose(placed[5], features[5] @ fitted, atol=1e-5)
