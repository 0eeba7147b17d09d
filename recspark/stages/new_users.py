"""How good the lists are for users whom nobody has learned from, after their first events, without training. Used by evaluate.

New users have test events and nothing in train, valid or history: on a temporal split, those who came after the cut. Their first
events are folded in as any history is, and what they took later is to be found. All are judged after 1, 3 and 10 events (or as
`evaluate.new_users` says): the same users, the same relevant items, the same items that are not listed again, which are those of
the first 10. So the rows differ in nothing but how much was known.

A user after n events is a user of its own to the code below, by a name that says n; the bootstrap's weights go by the true one.
"""

import logging
from typing import TYPE_CHECKING

import numpy as np
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recspark.data import popularity as popularity_counts
from recspark.data.blocks import keep
from recspark.data.catalogue import Catalogue, write_catalogue
from recspark.data.matrices import write_matrix
from recspark.data.new_users import after_each, each_count, had_and_new, placed_events
from recspark.evaluation.baselines import Popularity
from recspark.retrieval.combination import Choice
from recspark.stages.combine import user_vectors
from recspark.stages.combined_world import Sides, World
from recspark.stages.judge import Evaluation, Trial, judge_lists
from recspark.stages.judged_lists import ranked_lists
from recspark.stages.judged_models import Model, allowed_only, everyone, history_folding
from recspark.stages.judged_rows import comparison_rows, metric_rows
from recspark.stages.line_up import RECENT, LineUp, Night
from recspark.stages.list_vectors import CHOICE
from recspark.stages.lists import blocks_for
from recspark.stages.sequence import saved
from recspark.tables import COMBINED_USER_VECTORS

if TYPE_CHECKING:
    from recspark.pipeline import Deployment

logger = logging.getLogger("recspark")


def judge_new_users(night: Night, known: LineUp, scratch: str) -> tuple[list[tuple], list[tuple]]:
    """Rows of the tables metrics and comparisons; none where nobody is new, which the log says, or nobody asked.

    known: what those are judged by whom something was learned from; its catalogue and its models' names serve here, too.
    """
    config, settings, counts = night.config, night.config.evaluate, night.config.evaluate.new_users
    if not counts:
        return [], []
    placed = keep(placed_events(night.interactions, night.items, counts[-1], config.seed), f"{scratch}/placed")
    had, new = had_and_new(placed, night.interactions, counts[-1])
    new = new if night.denied is None else new.join(night.denied, "item_id", "left_anti")
    truth = keep(truth_of(new, known.catalogue, counts, config.seed), f"{scratch}/truth")
    judged = truth.select("user_id").distinct()
    repeated = judged.count()
    if not repeated:
        logger.info(
            "new users: nobody to judge; no user without an event in train, valid and history has more than %d test events, one of the "
            "later with a new item",
            counts[-1],
        )
        return [], []
    logger.info("%s", readable(repeated // len(counts), config))
    models = models_of(night, known, after_each(placed, counts), judged, scratch)
    trials = tuple(Trial(model.name, "all") for model in models)
    seen = each_count(positions_of(had, known.catalogue), counts).drop("history")
    blocks, longest = blocks_for(repeated, settings), settings.ks[-1]
    lists = ranked_lists(models, trials, {}, judged, None, seen, known.catalogue, blocks, longest, settings)
    evaluation = Evaluation(
        trials, known.catalogue, settings.ks, settings.replicates, night.train_users, new_users=counts
    )
    verdicts = judge_lists(lists, truth, evaluation, blocks)
    return metric_rows(evaluation, verdicts), comparison_rows(evaluation, verdicts)


def truth_of(new: DataFrame, catalogue: Catalogue, counts: tuple[int, ...], seed: int) -> DataFrame:
    """What `judge_lists` takes: each user once for each count, under the same hash. Tastes, which nobody asks for here, are 0."""
    hashed = positions_of(new, catalogue).withColumn("hash", F.xxhash64(F.lit(seed), "user_id"))
    return each_count(hashed, counts).select("user_id", "hash", "history", F.lit(0.0).alias("taste"), "position")


def positions_of(pairs: DataFrame, catalogue: Catalogue) -> DataFrame:
    """(user_id, position); items outside the catalogue drop out."""
    return pairs.join(catalogue.positions(pairs.sparkSession), "item_id").select("user_id", "position")


def models_of(night: Night, known: LineUp, events: DataFrame, judged: DataFrame, scratch: str) -> list[Model]:
    """Popularity, that of late, the texts alone, and the full model, in the order in which evaluate judges them; users folded in from these events."""
    config, popularity = night.config, Popularity().kind
    mine = events.join(judged, "user_id", "left_semi")
    fold_in = history_folding(mine, night.items, known.solve, config.embed.blocks, scratch)
    there = {model.name for model in known.models}
    models = [Model(popularity, everyone(judged), (f"knows_{popularity}",))] if popularity in there else []
    models += [Model(RECENT, everyone(judged))] if RECENT in there else []
    for name, items in known.texts.items():
        models.append(Model(name, keep(fold_in(items), f"{scratch}/{name}")))
    folded = keep(fold_in(night.items), f"{scratch}/folded")
    if config.combine:
        made = combined(night, known.catalogue, mine, folded, scratch)
        folded = keep(made, f"{scratch}/full")
    models.append(Model("full", folded))
    return allowed_only(models, night.denied)


def combined(night: Night, catalogue: Catalogue, events: DataFrame, folded: DataFrame, scratch: str) -> DataFrame:
    """(user_id, vector): the folded users as combine would combine them tonight.

    What each item says of the others is read back from the last part of the items' combined vectors, and its popularity from before that; the diagonal there is what
    combine lists a user's own items by again, and no part of it.
    """
    choice = Choice(**night.lake.manifest(COMBINED_USER_VECTORS)[CHOICE])
    factors = write_catalogue(night.items.select("item_id", "vector"), scratch)
    listed = catalogue.array("full")
    similar = np.array(listed[:, -factors.items :].T)
    np.fill_diagonal(similar, 0.0)
    popular = np.array(listed[:, -factors.items - 1])[None]
    sequences = saved(night.spark, night.lake, night.config) if night.config.sequence else None
    sides = Sides(
        factors, sequences, popularity_counts.Popularity((choice.half_life_days,), write_matrix(popular, scratch))
    )
    world = World(factors, folded, events, {choice.texts: write_matrix(similar, scratch)}, sides)
    return user_vectors(world, folded, choice, night.config.seed)


def readable(users: int, config: "Deployment") -> str:
    """Who is judged, for people; and by what order, where the log has none."""
    columns, counts = config.preprocess.interactions.columns, config.evaluate.new_users
    after = ", ".join(map(str, counts))
    said = f"new users: {users:,} with more than {counts[-1]} test events and nothing before, judged after {after}"
    unordered = not (columns.timestamp or columns.order)
    return said + ("; the log has no order of events, so a hash says which are the first" if unordered else "")
