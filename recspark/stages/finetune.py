"""finetune: the text encoder learns to say what the factorization learnt, so that text alone places an item.

The loss is the factorization's own, with the user factors fixed; it needs of an item's users only sums, so an epoch reads
each item once, however many interactions there are. Or it is an objective by pair, from a user's history to a target. Spark
writes the training table; each rank reads a shard of it.
"""

from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from pydantic import Field
from pyspark.sql import DataFrame, SparkSession

from recspark.data import solves
from recspark.data.blocks import Links, keep
from recspark.data.examples import (
    item_targets,
    lay_out,
    sample_positives,
    to_bytes,
    with_factor_weights,
    with_loss_weight,
)
from recspark.errors import UserError
from recspark.lake import Lake, local_folder
from recspark.models.encoder import EncoderConfig
from recspark.models.objectives import ItemObjective, PairObjective
from recspark.models.retriever import Factors, Retriever, save_retriever
from recspark.stages.base_encoder import base_encoder
from recspark.stages.pair_training import refit_head, write_pair_tables
from recspark.stages.provenance import (
    TOKENIZED_BY,
    require_one_factorization,
    require_same_tokens,
    tokenized_by,
)
from recspark.stages.training import (
    OnEpoch,
    RankedTraining,
    best_model,
    count_parameters,
    fingerprint_of,
    log_frame,
    make_job,
    train,
)
from recspark.tables import (
    INTERACTIONS,
    ITEM_FACTORS,
    ITEMS,
    PAIR_EXAMPLES,
    PAIR_ITEMS,
    PAIR_USERS,
    TRAINING_EXAMPLES,
    TRAINING_LOG,
    USER_FACTORS,
)
from recspark.training.item_lesson import ItemLesson, ItemSettings
from recspark.training.learner import TrainingJob
from recspark.training.pair_lesson import PairLesson, PairModel
from recspark.training.pair_step import PairSettings

if TYPE_CHECKING:
    from recspark.pipeline import Deployment

INPUTS = ("interactions", "items", "user_factors", "item_factors", "models/factors")
OUTPUTS = ("training_examples", "pair_examples", "pair_items", "pair_users", "training_log", "models/retriever")


class FinetuneConfig(ItemSettings, RankedTraining):
    """What is learned and by how many ranks."""

    validation_fraction: float = Field(
        0.1, ge=0, lt=1, description="items (examples, by pair) held out for early stopping, drawn by a hash of the id"
    )
    max_positives: int | None = Field(
        None, ge=1, description="users an item's sums are taken over, drawn by a hash; all if not set"
    )
    pairs: PairSettings = Field(PairSettings(), description="of the objectives by pair")


def run(spark: SparkSession, lake: Lake, config: "Deployment", on_epoch: OnEpoch | None = None) -> None:
    """Read interactions, items, the factor tables and the model `factors`; write training_log, `retriever`, and what was learned from:
    training_examples, or pair_examples, pair_items and pair_users.

    on_epoch is told each epoch's held-out loss while the ranks train; what it raises ends them.
    """
    settings, base = config.finetune, base_encoder(lake, config.encoder)
    factors_path, factors_hash = lake.read_model("factors")
    tokens = tokenized_by(base)
    require_one_factorization(lake, "finetune")
    require_same_tokens(lake, "finetune", tokens, "the configuration")
    require_same_tokens(lake, "finetune", lake.model_manifest("factors").get(TOKENIZED_BY, {}), "the model factors")
    factors = Factors.load(local_folder(factors_path))

    make = job_by_pair if isinstance(settings.objective, PairObjective) else job_by_item
    job = make(spark, lake, config, base, factors_path, (tokens["encoder"], factors_hash))
    train(spark, lake, "finetune", job, settings, f"{settings.adaptation.kind}, {settings.objective.kind}", on_epoch)
    model, rows = best_model(job)
    parameters = count_parameters(model)
    retriever = model.retriever if isinstance(model, PairModel) else model
    assert isinstance(retriever, Retriever)  # what an ItemLesson makes
    settings.adaptation.merge(retriever.encoder)
    if isinstance(model, PairModel):
        refit_head(spark, lake, config, retriever, base, factors)

    lake.write(log_frame(spark, rows), TRAINING_LOG)
    with TemporaryDirectory() as folder:
        save_retriever(retriever, base, factors.settings, folder)
        lake.write_model("retriever", folder, parameters=parameters, **{TOKENIZED_BY: tokens})
    lake.clear_scratch("finetune")


def job_by_item(
    spark: SparkSession, lake: Lake, config: "Deployment", base: EncoderConfig, factors: str, made_from: tuple[str, ...]
) -> TrainingJob:
    """For an objective by item. made_from: what a checkpoint goes by, beside the settings and the training table."""
    settings = config.finetune
    lake.write(training_examples(spark, lake, config, Factors.load(local_folder(factors))), TRAINING_EXAMPLES)
    fingerprint = fingerprint_of(lake, settings, [TRAINING_EXAMPLES], config.seed, *made_from)
    lesson = ItemLesson(settings, base, factors)
    return make_job(lake, "finetune", settings, lesson, TRAINING_EXAMPLES, config.seed, fingerprint)


def job_by_pair(
    spark: SparkSession, lake: Lake, config: "Deployment", base: EncoderConfig, factors: str, made_from: tuple[str, ...]
) -> TrainingJob:
    """For an objective by pair."""
    settings, objective = config.finetune, config.finetune.objective
    assert isinstance(objective, PairObjective)
    write_pair_tables(spark, lake, config, objective)
    fingerprint = fingerprint_of(lake, settings, [PAIR_EXAMPLES, PAIR_ITEMS, PAIR_USERS], config.seed, *made_from)
    items, users = lake.table_path(PAIR_ITEMS), lake.table_path(PAIR_USERS)
    lesson = PairLesson(settings, objective, settings.pairs, base, factors, items, users, config.seed)
    return make_job(lake, "finetune", settings, lesson, PAIR_EXAMPLES, config.seed, fingerprint)


def training_examples(spark: SparkSession, lake: Lake, config: "Deployment", factors: Factors) -> DataFrame:
    """The training table; `data.examples` says how it is laid out."""
    settings, items = config.finetune, lake.read(spark, ITEMS)
    assert isinstance(settings.objective, ItemObjective)
    pairs = solves.interaction_pairs(lake.read(spark, INTERACTIONS), solves.LEARNED)
    pairs = sample_positives(pairs, settings.max_positives, config.seed)
    links = Links(pairs, items.select("item_id"), config.factorize.blocks, lake.scratch("finetune/links"))
    users = lake.read(spark, USER_FACTORS)
    targets = item_targets(links, users, factors.settings.embedding_size)
    targets = with_factor_weights(targets, lake.read(spark, ITEM_FACTORS), users.count(), factors.settings)
    targets = with_loss_weight(keep(targets, lake.scratch("finetune/targets")), settings.objective.weight_exponent)
    if (count := targets.count()) < 2 * settings.num_processes:
        raise UserError(
            f"finetune: {count} items have training interactions, too few for {settings.num_processes} ranks, which need two each; "
            "set finetune.num_processes lower, or preprocess.split so that more items are in train"
        )
    met = items.join(targets, "item_id", "left_semi")
    layout = lay_out(met, settings.validation_fraction, settings.batch_size, settings.num_processes, config.seed)
    tokens = items.select("item_id", to_bytes("<i4")("token_ids").alias("tokens"))
    rows = layout.join(tokens, "item_id").join(targets, "item_id")
    return rows.repartition(settings.num_processes, "shard").sortWithinPartitions("shard", "part", "batch", "slot")
