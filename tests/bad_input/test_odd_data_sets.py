"""Data that nobody thought of: each gives a night that ends with right tables, or one clear error before anything is wasted."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from pyspark.sql import SparkSession

from recspark import config as configuration
from recspark.config import ConfigError
from recspark.data.examples import lay_out
from recspark.data.solves import fold_in
from recspark.data.splits import Provided, Random
from recspark.errors import UserError
from recspark.lake import Lake
from recspark.models.factors import FactorSettings
from recspark.pipeline import NIGHT, Deployment
from recspark.runner import planned, run_stage
from recspark.stages import candidates, combine, evaluate, finetune
from recspark.stages.candidates import CandidatesConfig
from recspark.stages.combine import CombineConfig
from recspark.stages.embed import EmbedConfig
from recspark.stages.evaluate import EvaluateConfig
from recspark.stages.factorize import FactorizeConfig
from recspark.stages.finetune import FinetuneConfig
from recspark.stages.tune import TuneConfig
from recspark.tables import (
    COMBINED_USER_VECTORS,
    INTERACTIONS,
    METRICS,
    PREDICTED_RATINGS,
    RECOMMENDATIONS,
    USER_VECTORS,
    Table,
)
from tests import ring_world
from tests.preprocess_world import RUN_DATE, World, six_items, twenty_events
from tests.vector_world import new_lake, settings, write_world

pytestmark = pytest.mark.slow  # all of them together; begun early

Rows = list[dict[str, Any]]


class Night:
    """A whole night in this process, everything small: raw rows in, the lake's tables out."""

    def __init__(self, spark: SparkSession, folder: Path, encoder: Path, events: Rows, items: Rows, **sections: Any):
        self.spark, self.file = spark, folder / "night.yaml"
        sources = {}
        for name, rows in (("interactions", events), ("items", items)):
            (folder / name).write_text("\n".join(map(json.dumps, rows)))
            sources[name] = {"path": str(folder / name), "format": "jsonl"}
        sources["interactions"]["columns"] = {n: n for n in events[0] if n not in ("user_id", "item_id")}
        sources["items"]["text"] = "{title}"
        baselines = [{"kind": kind} for kind in ("popularity", "ease", "tfidf")]
        ranks = {"num_processes": 1, "launcher": "local", "reader": "arrow"}
        self.settings: dict[str, Any] = {
            "lake": str(folder / "lake"),
            "encoder": {"path": str(encoder), "max_length": 8},
            "preprocess": {**sources, "split": {"kind": "provided"}},
            "factorize": {"embedding_size": 2, "iterations": 1, "blocks": 1},
            "finetune": {"adaptation": {"kind": "frozen"}, "epochs": 1, "batch_size": 4, "warmup_steps": 1, **ranks},
            "embed": {"blocks": 1},
            "candidates": {"top_k": 1},
            "evaluate": {
                "ks": [1],
                "replicates": 100,
                "slices": False,
                "id_alone": True,
                "new_users": [],
                "baselines": baselines,
            },
            **sections,
        }
        self.lake = Lake(self.settings["lake"], RUN_DATE)

    def run(self, *stages: str, **sections: Any) -> None:
        """The stages, in the order of the night, under these sections in the place of those that were."""
        self.settings |= sections
        self.file.write_text(yaml.safe_dump(self.settings))
        deployment = configuration.load(self.file, Deployment)
        self.lake.facts["settings"] = configuration.dump(deployment, self.file)
        for name in planned(self.lake, deployment, stages or NIGHT):
            run_stage(self.spark, self.lake, deployment, name, "")

    def table(self, table: Table) -> pd.DataFrame:
        return self.lake.read(self.spark, table).toPandas()

    def lists(self) -> dict[str, list[str]]:
        """What each user is recommended, the best first."""
        lists = self.table(RECOMMENDATIONS).sort_values(["user_id", "rank"])
        assert np.isfinite(lists.score).all()
        return lists.groupby("user_id").item_id.apply(list).to_dict()

    def recall(self) -> dict[tuple[str, str], float]:
        metrics = self.table(METRICS)
        recall = metrics[(metrics.metric == "recall") & (metrics.k == 1)]
        return {(r.model, r.slice): r.value for r in recall.itertuples()}


@pytest.fixture
def world(spark: SparkSession, tmp_path: Path, tiny_encoder: Path) -> World:
    return World(spark, tmp_path, tiny_encoder)


# ---- items


def test_without_any_text_no_item_is_left_and_it_is_said(world: World) -> None:
    world.give("items", [{**row, "title": " "} for row in six_items()])
    message = world.refusal()
    assert "preprocess.items: 6 of 6 rows (100.0%) would be rejected" in message
    assert "no_text: 6" in message
    message = world.refusal("max_reject_fraction=1")
    assert message.startswith("preprocess.items: all 6 rows are rejected (no_text 6)")
    assert "top_k" not in message  # no list of no items would do


def test_a_catalogue_that_nobody_has_met_is_judged_by_its_texts_alone(spark: SparkSession, tmp_path: Path) -> None:
    """evaluate alone: what users had are items that no train event knows. Both want item 2, which the text finds."""
    lake, ways = new_lake(tmp_path), {0: [1.0, 0.0], 1: [0.0, 1.0], 2: [1.0, 0.1], 3: [0.1, 1.0]}
    events = [(u, i, split) for u in (1, 2) for i, split in ((0, "history"), (2, "test"))]
    write_world(lake, {1: [1.0, 0.0], 2: [1.0, 0.0]}, ways, events)
    deployment = settings(CandidatesConfig(top_k=1), EvaluateConfig(ks=(1,), replicates=100, baselines=()))
    candidates.run(spark, lake, deployment)
    evaluate.run(spark, lake, deployment)
    rows = lake.read(spark, METRICS).where("metric = 'recall' AND slice IN ('all', 'warm', 'cold')").collect()
    found = {(r.model, r.slice): r.value for r in rows}
    assert found == {(m, s): 1.0 for m in ("full", "text_before", "text_after") for s in ("all", "cold")}


def test_one_item_is_too_few_to_fine_tune_on(spark: SparkSession, tmp_path: Path) -> None:
    lake = ring_world.write_lake(tmp_path, valid=False)[0]
    ring_world.put(lake, INTERACTIONS, [(u, 0, 0, None, None, 1.0, None, "train") for u in range(5)])
    deployment: Any = SimpleNamespace(seed=42, finetune=FinetuneConfig(), factorize=FactorizeConfig(blocks=1))
    factors: Any = SimpleNamespace(settings=FactorSettings(embedding_size=2))
    with pytest.raises(UserError) as caught:
        finetune.training_examples(spark, lake, deployment, factors)
    ranks = deployment.finetune.num_processes
    assert f"finetune: 1 items have training interactions, too few for {ranks} ranks, which need two" in str(
        caught.value
    )
    assert "set finetune.num_processes lower" in str(caught.value)


def test_two_items_of_one_text_and_one_rating_without_order_go_to_those_who_lack_them(
    spark: SparkSession, tmp_path: Path, tiny_encoder: Path
) -> None:
    """Of eight users each has had one of two items and wants the other, the only one left: every list that there is finds it."""
    other = {f"u{u}": "ab"[1 - u % 2] for u in range(8)}
    events = [
        {"user_id": user, "item_id": item, "rating": 4, "split": split}
        for user, wanted in other.items()
        for item, split in (("ab".replace(wanted, ""), "train"), (wanted, "test"))
    ]
    items = [{"item_id": i, "title": "one text"} for i in "ab"]
    night = Night(spark, tmp_path, tiny_encoder, events, items, ratings={"iterations": 1, "blocks": 1})
    night.run()
    assert night.lists() == {user: [wanted] for user, wanted in other.items()}
    recall = night.recall()
    assert {recall[model, "all"] for model in ("full", "id_alone", "text_after", "popularity", "tfidf")} == {1.0}
    assert not any(
        slice_name == "cold" or model == "factors_alone" for model, slice_name in recall
    )  # id_alone is these
    predicted = night.table(PREDICTED_RATINGS)
    assert predicted.prediction.tolist() == predicted.by_mean.tolist() == [4.0] * 8
    metrics = night.table(METRICS).set_index(["model", "slice", "metric"]).value
    assert metrics["ratings", "all", "rmse"] == 0.0
    with pytest.raises(UserError, match="combine: nobody to choose on"):  # who has had one item cannot give it away
        night.run("combine", combine={"seen": "chosen"})


def test_over_items_that_nobody_has_met_a_user_is_the_item_that_was_had_shrunk_by_the_ridge(
    spark: SparkSession, tmp_path: Path
) -> None:
    pairs = spark.createDataFrame([("u0", "a", 1.0), ("u1", "x", 1.0)], "user_id string, item_id string, weight double")
    items = spark.createDataFrame(
        [("a", [2.0, 0.0], 0, 1.0)], "item_id string, vector array<float>, interactions bigint, exposure float"
    )
    ridge = FactorSettings(embedding_size=2, regularization=1.0, frequency_exponent=1.0)
    found = {r.user_id: r.vector for r in fold_in(pairs, items, ridge, 1, str(tmp_path)).collect()}
    assert found["u0"] == pytest.approx([0.4, 0.0])  # 2 / (2² + 1)
    assert found["u1"] == [0.0, 0.0]  # x is not in the catalogue


# ---- users


def test_one_user_who_wants_what_nobody_has_met_gets_a_list_of_two_models(
    spark: SparkSession, tmp_path: Path, tiny_encoder: Path
) -> None:
    splits = ("train", "train", "train", "valid", "test")
    events = [{"user_id": "u0", "item_id": f"i{n}", "split": split} for n, split in enumerate(splits)]
    night = Night(spark, tmp_path, tiny_encoder, events, six_items(), combine={"seen": "chosen"})
    night.run()
    ((listed,),) = night.lists().values()
    assert listed in ("i4", "i5")
    recall = night.recall()
    assert recall["full", "all"] == recall["full", "cold"] == (listed == "i4")
    assert recall["id_alone", "all"] == recall["factors_alone", "all"] == 0.0  # they know what he has had
    assert ("factors_alone", "cold") not in recall
    assert {model for model, slice_name in recall if slice_name == "warm"} == set()  # nobody wants a warm item
    vectors = night.table(USER_VECTORS)
    assert np.isfinite(vectors.vector[0]).all()
    assert (
        len(night.table(COMBINED_USER_VECTORS).vector[0]) == len(vectors.vector[0]) + 1 + 6
    )  # the popularity, and each item


def test_a_user_whose_whole_history_is_outside_the_catalogue_goes_with_it(world: World) -> None:
    outside = [{"user_id": "u9", "item_id": f"x{n}", "timestamp": 1_000_000_000 + n} for n in range(3)]
    world.give("interactions", [*twenty_events(), *outside])
    assert "unknown_item: 3" in world.refusal()
    world.give("users", [{"user_id": "u0"}, {"user_id": "u9"}])
    world.run("max_reject_fraction=0.2")
    assert {r["user_id"]: r["events"] for r in world.table("users")} == {"u0": 4, "u1": 4, "u2": 4, "u3": 4, "u9": 0}


def test_users_who_leave_nobody_to_choose_on_are_said_before_anything_is_learned(
    spark: SparkSession, tmp_path: Path
) -> None:
    """All that users have is drawn as what they want."""
    lake = ring_world.write_lake(tmp_path, valid=False)[0]
    deployment: Any = SimpleNamespace(
        seed=42,
        sequence=None,
        combine=CombineConfig(),
        embed=EmbedConfig(blocks=1),
        factorize=FactorizeConfig(embedding_size=2),
        preprocess=SimpleNamespace(split=Provided()),
        tune=TuneConfig(validation=Random(test=1 - 1e-9)),
    )
    with pytest.raises(UserError, match="combine: nobody to choose on: no user has something to recommend from"):
        combine.run(spark, lake, deployment)
    assert not lake.has(COMBINED_USER_VECTORS)


# ---- order


@pytest.mark.parametrize("kind", ["temporal", "leave_last_out"])
def test_a_split_by_time_says_that_it_needs_an_order(world: World, kind: str) -> None:
    world.settings["interactions"]["columns"] = {}
    assert f"split {kind} needs interactions.columns.timestamp or .order; name one, or use kind random" in (
        world.refusal(f"split={{kind: {kind}}}")
    )


@pytest.mark.parametrize(
    ("validation", "said"),
    [
        ({"kind": "leave_last_out"}, "tune.validation leave_last_out needs preprocess.interactions.columns.timestamp"),
        ({"kind": "provided"}, "tune.validation is drawn from train rows, where a column cannot tell"),
    ],
)
def test_a_validation_that_cannot_be_drawn_is_said_with_the_settings(validation: dict, said: str) -> None:
    sources = {"interactions": {"path": "events"}, "items": {"path": "items", "text": "{title}"}}
    raw = {
        "lake": "lake",
        "encoder": {"path": "encoder"},
        "preprocess": {**sources, "split": {"kind": "random"}},
        "tune": {"validation": validation},
    }
    with pytest.raises(ConfigError, match=said):
        configuration.parse(raw, Deployment, [])


def test_events_of_one_moment_leave_no_test_by_time(world: World) -> None:
    world.give("interactions", [{**row, "timestamp": 1_000_000_000} for row in twenty_events()])
    assert "leaves no test rows; it gave 20 train; hold out more" in world.refusal()


# ---- so few that not every rank has one


@pytest.mark.parametrize(("items", "held_out"), [(4, 0.001), (4, 0.999), (2, 0.5), (8, 0.06)])
def test_where_a_rank_would_have_nothing_to_learn_or_hold_out_all_items_learn(
    spark: SparkSession, items: int, held_out: float
) -> None:
    texts = spark.range(items).selectExpr("CAST(id AS string) AS item_id", "array(1, 2) AS token_ids")
    found = lay_out(texts, held_out, batch_size=4, shards=2, seed=1).toPandas()
    assert found.part.tolist() == ["train"] * items
    assert found.shard.value_counts().to_dict() == {0: items / 2, 1: items / 2}
