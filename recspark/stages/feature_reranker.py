"""The cheap reranker: a weighted sum of features, learned on the driver from the lists of some users. Used by rerank."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field
from pyspark.sql import DataFrame

from recspark.config import Settings
from recspark.errors import UserError
from recspark.stages.reranking import Scorer, World, over_questions, questions_of

if TYPE_CHECKING:
    from recspark.stages.rerank_night import Night

LESSON = "features binary, target int"


class FeatureReranker(Settings):
    """Features of scores, vectors and counts; no text is read."""

    kind: Literal["features"] = "features"
    depth: int = Field(100, ge=2, description="of each list, the items that are reranked")
    max_users: int = Field(
        5000, ge=1, description="users it learns from, drawn by a hash of the id; the driver holds their features"
    )
    l2: float = Field(0.01, ge=0, description="pull of the weights to 0")

    def learn(self, night: "Night", lessons: DataFrame, world: World) -> "LearnedFeatures":
        """The model, from rows that `ask` made with `target`, the position of the item that was taken.

        Raises UserError if no list has its target.
        """
        from recspark.models.linear_reranker import fit
        from recspark.retrieval.features import FEATURES

        found = over_questions(lessons, lambda rows: feature_lessons(rows, world, self.depth), LESSON).collect()
        if not found:
            raise UserError(
                "rerank: nothing to learn from: no user's last train event is among what was retrieved from the events before it; "
                "raise candidates.top_k and rerank.model.depth, or leave out the section rerank"
            )
        lists = [np.frombuffer(part, np.float32).reshape(-1, len(FEATURES)) for part, _ in found]
        indptr = np.concatenate([[0], np.cumsum([len(part) for part in lists])])
        taken = indptr[:-1] + np.array([place for _, place in found])
        return LearnedFeatures(fit(tuple(FEATURES), np.concatenate(lists), indptr, taken, self.l2))


@dataclass(frozen=True)
class LearnedFeatures:
    """The model, a `LinearReranker`."""

    model: Any

    def save(self, folder: str) -> None:
        self.model.save(folder)

    def scorer(self) -> Scorer:
        """Scores by the model's weights."""
        model = self.model

        def score(questions):  # type: ignore[no-untyped-def]
            from recspark.retrieval.features import features_of

            return [model.score(features_of(q)) if len(q.positions_K) else np.empty(0) for q in questions]

        return score


def feature_lessons(rows: pa.Table, world: World, depth: int) -> pa.Table:
    """(features (K, F) float32 as bytes, target: its place in the list) of the lists that have their target."""
    from recspark.retrieval.features import features_of

    features, places = [], []
    for question, target in zip(questions_of(rows, world, depth), rows["target"].to_pylist(), strict=True):
        place: NDArray[np.int64] = np.flatnonzero(question.positions_K == target)
        if len(place):
            features.append(features_of(question).tobytes())
            places.append(int(place[0]))
    return pa.table({"features": pa.array(features, pa.binary()), "target": pa.array(places, pa.int32())})
