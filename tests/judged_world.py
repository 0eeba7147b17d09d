"""A lake for evaluate, what evaluate says of it, and the same in plain loops."""

from math import log2

import numpy as np

from recspark.evaluation.baselines import Popularity
from recspark.stages import candidates, evaluate, line_up
from recspark.stages.candidates import CandidatesConfig
from recspark.stages.evaluate import EvaluateConfig
from recspark.tables import COMPARISONS, METRICS
from tests.vector_world import settings

FOLDED = ("train", "valid", "history")
KS = (3, 8)


def run(spark, lake, top_k=10, size=2, **config):
    """(model, slice, metric, k) -> row of the metrics table."""
    few = {"ks": KS, "replicates": 100, "baselines": (Popularity(),), "new_users": (), "leakage": False}
    deployment = settings(CandidatesConfig(top_k=top_k), EvaluateConfig(**few | config), size)
    candidates.run(spark, lake, deployment)
    evaluate.run(spark, lake, deployment)
    return {(r.model, r.slice, r.metric, r.k): r for r in lake.read(spark, METRICS).collect()}


def comparisons(spark, lake):
    """(model, other, slice, metric, k) -> row of the table of comparisons."""
    return {(r.model, r.other, r.slice, r.metric, r.k): r for r in lake.read(spark, COMPARISONS).collect()}


def fold_by_sum(monkeypatch, users, size):
    """Stand in for the fold-in: a user's vector is the sum of the vectors in the history, so whole numbers stay whole."""

    def folding(interactions, items, settings, blocks, scratch):
        def fold_in(item_vectors):
            vectors = {r.item_id: np.array(r.vector) for r in item_vectors.collect()}
            sums = {}
            for row in (
                interactions.where(interactions.split.isin(*FOLDED)).select("user_id", "item_id").distinct().collect()
            ):
                sums[row.user_id] = sums.get(row.user_id, np.zeros(size)) + vectors[row.item_id]
            rows = [(u, v.tolist()) for u, v in sums.items()]
            return item_vectors.sparkSession.createDataFrame(rows, "user_id bigint, vector array<float>")

        return fold_in

    monkeypatch.setattr(line_up, "history_folding", folding)


def make_world(seed=6, users=40, items=60):
    """Whole-number vectors and priors; items above 50 are never in train; users 200 and up have nothing before their test."""
    rng = np.random.default_rng(seed)
    draw = lambda n: {i: rng.integers(-3, 4, 3) for i in range(n)}  # noqa: E731
    user_vectors, item_vectors, after, before = draw(users), draw(items), draw(items), draw(items)
    events = [(u, int(i), "train") for u in range(users) for i in rng.choice(50, (2, 4, 8)[u % 3], replace=False)]
    events += [(int(rng.integers(users)), int(rng.integers(items)), "history") for _ in range(20)]
    events += [(int(rng.integers(users)), int(rng.integers(50, items)), "masked") for _ in range(20)]
    events += [(u, int(i), "test") for u in range(0, users, 2) for i in rng.choice(items, 6)]
    events += [(200, 3, "test"), (201, 3, "masked"), (201, 4, "test")]
    return user_vectors, item_vectors, after, before, events


def expected(users, items, events, allowed, k, counts=lambda user, item: True):
    """(ndcg, recall, map, users) in plain loops over the users who have something relevant, that counts, among the allowed items."""
    rows = []
    for user in {u for u, _, s in events if s in FOLDED}:
        seen = {i for u, i, s in events if u == user and s != "test"}
        relevant = {i for u, i, s in events if u == user and s == "test"} - seen & set(items)
        relevant = {i for i in relevant & set(allowed) if counts(user, i)}
        if not relevant:
            continue
        scores = {i: float(users[user] @ items[i]) for i in allowed if i not in seen}
        listed = sorted(scores, key=lambda i: (-scores[i], i))[:k]
        hits = [r for r, i in enumerate(listed, 1) if i in relevant]
        ideal = sum(1 / log2(r + 1) for r in range(1, min(k, len(relevant)) + 1))
        average = sum(n / r for n, r in enumerate(hits, 1)) / len(relevant)
        rows.append((sum(1 / log2(r + 1) for r in hits) / ideal, len(hits) / len(relevant), average))
    return (*np.mean(rows, axis=0), len(rows))
