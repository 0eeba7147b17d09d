"""A trial of tune: the night's own stages over a lake whose test is the validation rows, and no test row is in it.

The lake has one set of tables. A stage's outputs carry, in their manifests, a key of all the settings that they come from; where they
stand with the key that a trial wants, the stage is not run again. So what trials have in common is made once, and no disk fills up.
"""

import datetime
import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

from pyspark.sql import DataFrame, SparkSession

from recspark.errors import UserError
from recspark.lake import Lake
from recspark.stages import candidates, embed, evaluate, factorize, finetune
from recspark.stages.base_encoder import base_encoder
from recspark.stages.provenance import TOKENIZED_BY
from recspark.stages.training import OnEpoch
from recspark.stages.validation import validation_interactions
from recspark.stages.versions import TONIGHT
from recspark.tables import BASE_TEXT_VECTORS, INTERACTIONS, ITEMS, TABLES, USERS, Table

if TYPE_CHECKING:
    from recspark.pipeline import Deployment

TRIAL: Sequence[ModuleType] = (factorize, finetune, embed, candidates, evaluate)
# Which of them there are goes by the objective; no stage reads them but the one that wrote them.
LEARNED_FROM = ("training_examples", "pair_examples", "pair_items", "pair_users")
MADE_FROM = "made_from"  # in the manifests of the lake of trials: a key of the settings

log = logging.getLogger("recspark")


def name_of(stage: ModuleType) -> str:
    return stage.__name__.rpartition(".")[2]


SEARCHED = tuple(name_of(stage) for stage in TRIAL if stage is not evaluate)  # evaluate is the measure


# ---- the lake of trials


def make_trial_lake(spark: SparkSession, lake: Lake, trials: Lake, config: "Deployment", key: str) -> None:
    """Interactions, items and users for the trials, unless they stand already; and the text vectors that the night has made.

    Raises UserError if a table of the night is missing, or nothing is left to train or to judge on.
    """
    trials.facts = {"settings": lake.facts.get("settings", {}), MADE_FROM: key}
    about = {TOKENIZED_BY: lake.manifest(ITEMS).get(TOKENIZED_BY)}
    # Not with items: whoever is cut short in between shall start from the first.
    if not stands(trials, ["interactions", "items", "users"], key):
        trials.write(lake.read(spark, ITEMS), ITEMS, **about)
        trials.write(lake.read(spark, USERS), USERS)
        written = trials.write(validation_interactions(lake.read(spark, INTERACTIONS), config), INTERACTIONS)
        require_rows(written)
        copy_text_vectors(spark, lake, trials, BASE_TEXT_VECTORS)


def require_rows(interactions: DataFrame) -> None:
    """UserError unless there is something to train and to judge on."""
    counts = {r["split"]: r["count"] for r in interactions.groupBy("split").count().collect()}
    log.info("  trials' split: %s", ", ".join(f"{name} {n:,}" for name, n in sorted(counts.items())))
    if not counts.get("train") or not counts.get("test"):
        raise UserError(
            "tune: the rows that are not test leave nothing to train on, or nothing to judge by; hold out valid rows by "
            f"preprocess.split, or set tune.validation to a split of the train rows; they gave {counts}"
        )


def copy_text_vectors(spark: SparkSession, lake: Lake, trials: Lake, table: Table) -> None:
    """What the night's factorize has encoded, as if the night before the trials had: they take it from there."""
    if lake.has(table):
        before = Lake(trials.root, trials.run_date - datetime.timedelta(days=1))
        about = {TOKENIZED_BY: lake.manifest(table).get(TOKENIZED_BY)}
        before.write(lake.read(spark, table), table, **about)


def stands(trials: Lake, outputs: Sequence[str], key: str) -> bool:
    """Whether all outputs are there, whole, and made from these settings."""
    return all(made_from(trials, name) == key for name in outputs)


def made_from(trials: Lake, name: str) -> str | None:
    """The key in the manifest of a table or model; None if it is not there."""
    model = name.removeprefix("models/")
    if model != name:
        version = trials.registry(model).of_date(trials.run_date)
        return version.manifest.get(MADE_FROM) if version else None
    return trials.manifest(TABLES[name]).get(MADE_FROM) if trials.has(TABLES[name]) else None


# ---- one trial


def trial_settings(lake: Lake, config: "Deployment") -> dict[str, Any]:
    """The deployment as trials have it: the encoder's path as the night's lake gives it, and of evaluate only what the metric needs.

    Parts of the night that no metric of a trial looks at are left out.
    """
    raw = config.model_dump(mode="json")
    raw["encoder"], raw["pretrain"] = base_encoder(lake, config.encoder).model_dump(mode="json"), None
    raw["evaluate"] |= {
        "ks": [config.tune.metric.k],
        "baselines": [],
        "id_alone": False,
        "slices": False,
        "new_users": [],
        "leakage": False,
        "calibrate": None,
    }
    raw["embed"]["retriever"] = TONIGHT
    return raw | {"tune": {}, "sequence": None, "combine": None, "ratings": None, "index": None, "rerank": None}


def run_stages(
    spark: SparkSession, trials: Lake, config: "Deployment", key: str, on_epoch: OnEpoch, settings: dict[str, Any]
) -> None:
    """The stages whose outputs do not stand as these settings would make them. key: of the lake's tables. settings: for manifests."""
    for stage in TRIAL:
        name = name_of(stage)
        key = key_of(key, config.model_dump(mode="json", include={name, "encoder", "seed"}))
        if stands(trials, [output for output in stage.OUTPUTS if output not in LEARNED_FROM], key):
            continue
        trials.begin(name)
        trials.facts = {"settings": settings, MADE_FROM: key}
        for model in (output for output in stage.OUTPUTS if output.startswith("models/")):
            trials.remove(model)  # else the versions of all trials would stay
        log.debug("  trial: %s", name)
        run: Callable[..., None] = stage.run
        run(spark, trials, config, **({"on_epoch": on_epoch} if stage is finetune else {}))
        spark.catalog.clearCache()


def key_of(*parts: Any) -> str:
    """A hash of anything that JSON can hold."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]
