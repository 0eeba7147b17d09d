"""What finetune does otherwise where its objective is one by pair: the training tables, and the head made anew afterwards."""

import logging
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import torch
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recspark.data import pairs as made
from recspark.data import solves
from recspark.data.blocks import Links, keep, to_blocks
from recspark.data.priors import text_prior
from recspark.data.sums import exact_mean
from recspark.errors import UserError
from recspark.lake import Lake
from recspark.lake.folders import folder_hash
from recspark.models.encoder import EncoderConfig
from recspark.models.model_folder import content_hash
from recspark.models.objectives import Mse, PairObjective, parts_of
from recspark.models.retriever import Factors, Retriever, save_retriever
from recspark.stages.candidates import TOP_K
from recspark.stages.text_vectors import encode_texts
from recspark.tables import CANDIDATES, INTERACTIONS, ITEM_FACTORS, ITEMS, PAIR_EXAMPLES, PAIR_ITEMS, PAIR_USERS
from recspark.training.pair_step import PairSettings

if TYPE_CHECKING:
    from recspark.pipeline import Deployment

log = logging.getLogger("recspark")


def write_pair_tables(spark: SparkSession, lake: Lake, config: "Deployment", objective: PairObjective) -> None:
    """Write pair_examples, pair_items and pair_users.

    Raises UserError where there are too few examples, or ratings are wanted and are not there.
    """
    settings, scratch = config.finetune.pairs, lake.scratch("finetune/pairs")
    items, learned = lake.read(spark, ITEMS), lake.read(spark, INTERACTIONS).where(F.col("split").isin(*solves.LEARNED))
    positions = keep(made.numbered(items), f"{scratch}/positions")
    pairs = keep(made.dated_pairs(learned, positions), f"{scratch}/dated")
    targets = made.targets_of(pairs, settings.max_examples_per_user, config.seed)
    examples = made.with_history(targets, pairs, settings.history, settings.history_size, settings.known_positives)
    biases = rating_biases(pairs, objective)
    if biases is None:
        examples = examples.withColumn("user_bias", F.lit(None).cast("float"))
    else:
        examples = examples.join(biases[0], "user_id")
    examples = keep(with_mined(spark, lake, examples, pairs, positions, settings), f"{scratch}/examples")
    if (count := examples.count()) < 2 * config.finetune.num_processes:
        raise UserError(
            f"finetune: {count} training interactions have a history, too few for {config.finetune.num_processes} ranks; "
            "all_pairs needs none, nor does pairs.history: others where a user has two"
        )
    rows = made.item_rows(items, positions, examples, None if biases is None else biases[1])
    lake.write(laid_out(examples, config), PAIR_EXAMPLES)
    lake.write(rows, PAIR_ITEMS)
    lake.write(made.user_rows(pairs, settings.known_positives), PAIR_USERS)


def rating_biases(pairs: DataFrame, objective: PairObjective) -> tuple[DataFrame, DataFrame] | None:
    """Biases of users and items, if a part of the objective is about ratings.

    Raises UserError if a training interaction has none.
    """
    rated = [part.objective for part in parts_of(objective) if isinstance(part.objective, Mse)]
    if not rated:
        return None
    if missing := pairs.where("rating IS NULL").count():
        raise UserError(
            f"finetune.objective mse: {missing} of {pairs.count()} training pairs have no rating; set "
            "preprocess.interactions.columns.rating, or choose another objective"
        )
    for mse in rated:
        require_scale(pairs, mse)
    return made.rating_biases(pairs, rated[0].shrinkage)


def require_scale(pairs: DataFrame, mse: Mse) -> None:
    """UserError if ratings lie beyond the ends of the sigmoid, which would never reach them."""
    found = pairs.agg(F.min("rating"), F.max("rating")).first()
    if mse.link == "sigmoid" and found is not None and not (mse.low <= found[0] and found[1] <= mse.high):
        raise UserError(
            f"finetune.objective mse: ratings are from {found[0]:g} to {found[1]:g}, and its low and high are {mse.low:g} and {mse.high:g}; "
            "set them to the ends of the scale, or link: identity"
        )


def with_mined(
    spark: SparkSession, lake: Lake, examples: DataFrame, pairs: DataFrame, positions: DataFrame, settings: PairSettings
) -> DataFrame:
    """Column `mined`: from the candidates of the newest earlier run date; empty where there is none, or they are not wanted."""
    nothing = F.lit(b"").alias("mined")
    if not settings.hard_negatives:
        return examples.select("*", nothing)
    dates = [date for date in lake.run_dates(CANDIDATES) if date < lake.run_date and lake.has(CANDIDATES, date)]
    if not dates:
        log.info("  no candidates of an earlier run date: negatives are random ones only")
        return examples.select("*", nothing)
    first, depth = settings.hard_ranks[0], lake.manifest(CANDIDATES, dates[-1]).get(TOP_K)
    if depth is not None and first > depth:
        log.warning(
            "  no hard negatives: finetune.pairs.hard_ranks begin at %d, and the lists of %s have %d items",
            first,
            dates[-1],
            depth,
        )
        return examples.select("*", nothing)
    log.info("  hard negatives from the candidates of %s, ranks %d to %d", dates[-1], *settings.hard_ranks)
    found = made.mined(lake.read(spark, CANDIDATES, dates[-1]), settings.hard_ranks, pairs, positions)
    return examples.join(found, "user_id", "left").withColumn("mined", F.coalesce("mined", F.lit(b"")))


def laid_out(examples: DataFrame, config: "Deployment") -> DataFrame:
    """The examples in steps and shards."""
    settings = config.finetune
    layout = made.lay_out_pairs(
        examples, settings.validation_fraction, settings.batch_size, settings.num_processes, config.seed
    )
    mean = examples.agg(exact_mean("weight")).first()
    assert mean is not None  # an aggregate without groups has one row
    rows = layout.join(examples, "example").withColumns(
        {
            "weight": (F.col("weight") / F.lit(mean[0])).cast("float"),
            "rating": F.col("rating").cast("float"),
            "target": F.col("position"),
        }
    )
    return rows.repartition(settings.num_processes, "shard").sortWithinPartitions("shard", "part", "batch", "slot")


def refit_head(
    spark: SparkSession, lake: Lake, config: "Deployment", model: Retriever, base: EncoderConfig, factors: Factors
) -> None:
    """Give the retriever the head that maps the encoder's text vectors to the item factors, by the ridge of factorize.

    A head learned by pairs maps into a space of its own; embed corrects items in that of the factorization.
    """
    scratch = lake.scratch("finetune/refit")
    with TemporaryDirectory() as folder:
        save_retriever(model, base, factors.settings, folder)
        # Named by its content: a machine's copy of an earlier training's must not be taken for it.
        encoder_path = f"{scratch}/encoder-{folder_hash(Path(folder))[:16]}"
        lake.put_folder(folder, encoder_path)
    items = lake.read(spark, ITEMS)
    encoder = base.model_copy(update={"path": encoder_path, "pooling": None})
    texts = items.select("text_hash", "token_ids").dropDuplicates(["text_hash"])
    encoded = keep(encode_texts(spark, texts, encoder, content_hash(encoder.path)), f"{scratch}/encoded")
    vectors = items.select("item_id", "text_hash").join(encoded, "text_hash").select("item_id", "vector")

    pairs = solves.interaction_pairs(lake.read(spark, INTERACTIONS), solves.LEARNED)
    known = lake.read(spark, ITEM_FACTORS)
    links = Links(pairs, known.select("item_id", "exposure"), config.factorize.blocks, scratch)
    prior = text_prior(vectors, links, factors.settings, config.factorize.prior_ridge, scratch)
    text_map = prior.fit(keep(to_blocks(known, links.item_index, "item_id"), f"{scratch}/item_factors"))
    with torch.no_grad():
        model.head.weight.copy_(torch.from_numpy(text_map[:-1].T.copy()))
        model.head.bias.copy_(torch.from_numpy(text_map[-1] - prior.centre @ text_map[:-1]))
