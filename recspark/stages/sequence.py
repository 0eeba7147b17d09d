"""sequence: a small model over item vectors learns what comes after what, or what goes with what. combine takes it as a part.

It learns from train events alone, and stops by what is held out: `valid` rows where the split has any, else train rows drawn as
the night's test was; combine chooses its share on the same. So what its share is chosen by never learned from what it is chosen on. Where train
rows were drawn, the night's own model learns once more from all of them, for as many epochs as were best. It runs where the
configuration has a section `sequence`; the softmax is over all items, so the catalogue must be one that combine can take.
"""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, ClassVar

import pyarrow as pa
from pydantic import Field
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recspark.data.blocks import keep
from recspark.data.catalogue import Catalogue, vector_column, write_catalogue
from recspark.data.examples import deal
from recspark.data.sequences import windows
from recspark.data.solves import LEARNED
from recspark.errors import UserError
from recspark.lake import Lake
from recspark.lake.folders import folder_hash
from recspark.models.sequence import Inputs, Reads, SequenceModel, SequenceShape, save_sequence
from recspark.retrieval.sequences import Sequences
from recspark.session import task_threads
from recspark.stages.lists import id_type
from recspark.stages.text_vectors import with_texts
from recspark.stages.training import RankedTraining, best_model, fingerprint_of, log_frame, make_job, train
from recspark.stages.validation import hold_out_interactions, hold_out_split
from recspark.tables import INTERACTIONS, ITEM_VECTORS, SEQUENCE_EXAMPLES, SEQUENCE_EXAMPLES_ALL, SEQUENCE_LOG, Table
from recspark.training.sequence_lesson import SequenceLesson

if TYPE_CHECKING:
    from recspark.pipeline import Deployment

INPUTS = ("interactions", "base_text_vectors", "text_vectors", "item_vectors")
OUTPUTS = (
    "sequence_examples",
    "sequence_examples_all",
    "sequence_log",
    "models/sequence",
    "models/sequence_held_out",
)
MODEL, HELD_OUT = (
    "sequence",
    "sequence_held_out",
)  # the night's; and the one that has learned nothing of what is held out
DRAWN = "held_out_by"  # in its manifest
MODELS: dict[Reads, str] = {"order": "transformer", "set": "sums"}

log = logging.getLogger("recspark")


class SequenceConfig(RankedTraining):
    """What it reads of an item, its size, and how it learns."""

    section: ClassVar[str] = "sequence"

    inputs: Inputs = Field("texts", description="an item is what its texts say, a vector of its own (ids), or both")
    shape: SequenceShape = SequenceShape()
    temperature: float = Field(0.07, gt=0, description="of the softmax over all items")
    learning_rate: float = Field(1e-3, gt=0, description="peak")
    max_users: int = Field(200_000, ge=1, description="users to learn from at most, drawn by a hash of the id")
    dropout: float = Field(0.3, ge=0, lt=1, description="of the transformer, while it learns")
    epochs: int = Field(15, ge=1, description="at most; fewer when the held-out loss stops falling")
    patience: int = Field(3, ge=1, description="epochs without a lower held-out loss before it stops")


def run(spark: SparkSession, lake: Lake, config: "Deployment") -> None:
    """Read interactions and the items' text vectors; write the examples, sequence_log, and the models `sequence` and `sequence_held_out`,
    which are the same where the split has valid rows.

    Raises UserError if too few users have one event after another.
    """
    settings = config.sequence
    if settings is None:
        raise UserError("sequence: the configuration has no section sequence; write one: sequence: {}")
    scratch = lake.scratch("sequence/tables")
    catalogue, texts = read_items(spark, lake, settings, scratch)
    events = lake.read(spark, INTERACTIONS)
    parts = events_of(events, config, scratch)
    lake.write(examples(parts, catalogue, settings, config.seed, scratch), SEQUENCE_EXAMPLES)
    if nothing_valid(events):
        everything = events.where(F.col("split").isin(*LEARNED))
        nobody = parts[1].limit(0)
        all_of_it = examples((everything, nobody, nobody), catalogue, settings, config.seed, f"{scratch}/all")
        lake.write(all_of_it, SEQUENCE_EXAMPLES_ALL)
    learned = learn(spark, lake, config, settings, catalogue, texts)
    lake.write(log_frame(spark, learned.log), SEQUENCE_LOG)
    for name, model in {HELD_OUT: learned.held_out, MODEL: learned.night}.items():
        with TemporaryDirectory() as folder:
            save_sequence(model, settings.shape, folder)
            lake.write_model(name, folder, **{DRAWN: drawn_by(config)})
    lake.clear_scratch("sequence")


def read_items(
    spark: SparkSession, lake: Lake, settings: SequenceConfig, scratch: str
) -> tuple[Catalogue, tuple[str, ...]]:
    """All items by position, and the names of the catalogue's columns of text vectors."""
    items = lake.read(spark, ITEM_VECTORS).select("item_id", "text_hash")
    if settings.inputs == "ids":
        return write_catalogue(items.select("item_id", F.lit(True).alias("there")), scratch), ()
    columns, encoders = with_texts(spark, lake, items, "sequence")
    return write_catalogue(columns, scratch), encoders


def examples(
    events: tuple[DataFrame, DataFrame, DataFrame],
    catalogue: Catalogue,
    settings: SequenceConfig,
    seed: int,
    scratch: str,
) -> DataFrame:
    """The training table; `data.examples.deal` says how it is laid out. events: as of `events_of`."""
    made = windows(*events, catalogue, settings.shape.longest, settings.max_users, seed)
    found = keep(made, f"{scratch}/windows")
    counts = {row["part"]: row["count"] for row in found.groupBy("part").count().collect()}
    if counts.get("train", 0) < settings.num_processes:
        raise UserError(
            f"sequence: {counts.get('train', 0)} users have a train event after another, too few for {settings.num_processes} ranks; "
            "leave out the section sequence"
        )
    if counts.get("valid", 0) < settings.num_processes:
        if events[2].first() is not None:
            log.warning("sequence: hardly anything is held out, so it learns for all of sequence.epochs")
        found = found.where("part = 'train'")
    layout = deal(found.select("window", "length", "part"), "window", settings.batch_size, settings.num_processes, seed)
    rows = layout.join(found.drop("part", "length"), "window")
    return rows.repartition(settings.num_processes, "shard").sortWithinPartitions("shard", "part", "batch", "slot")


def events_of(events: DataFrame, config: "Deployment", scratch: str) -> tuple[DataFrame, DataFrame, DataFrame]:
    """(user_id, item_id, order_key) each: what is learned from; what users are known by; and what combine will choose on."""
    held_out = "valid"
    if nothing_valid(events):
        events, held_out = keep(hold_out_interactions(events, config), f"{scratch}/interactions"), "test"
    rows = events.select("user_id", "item_id", "order_key", "split")
    parts = (
        rows.where(F.col("split").isin(*names)).drop("split") for names in (LEARNED, (*LEARNED, "history"), (held_out,))
    )
    learned, before, asked = parts
    return learned, before, asked


def nothing_valid(events: DataFrame) -> bool:
    """Whether what is held out must be drawn from train."""
    return events.where("split = 'valid'").first() is None


@dataclass(frozen=True)
class Learned:
    """night: what the lists are made by. held_out: what has learned nothing of what is held out; the same where that is valid rows.
    log: of the latter's training."""

    night: SequenceModel
    held_out: SequenceModel
    log: list[dict]


def learn(
    spark: SparkSession,
    lake: Lake,
    config: "Deployment",
    settings: SequenceConfig,
    catalogue: Catalogue,
    texts: tuple[str, ...],
    name: str = MODEL,
) -> Learned:
    """Learn from sequence_examples up to the best epoch and, where train rows are held out there, so long again from
    sequence_examples_all. name: whose checkpoints these are."""
    lesson = SequenceLesson(
        catalogue,
        texts,
        not texts or settings.inputs == "both",
        settings.shape,
        settings.dropout,
        settings.temperature,
        settings.learning_rate,
        config.seed,
    )
    what = f"{MODELS[settings.shape.reads]} over {'what texts say' if texts else 'ids'}"

    def trained(table: Table, until: int | None) -> tuple[SequenceModel, list[dict]]:
        fingerprint = fingerprint_of(lake, settings, [table, ITEM_VECTORS], config.seed, until, *texts)
        job = make_job(lake, name, settings, lesson, table, config.seed, fingerprint, until)
        train(spark, lake, name, job, settings, what if until is None else f"{what}, once more from all of train")
        return best_model(job)  # type: ignore[return-value]

    held_out, rows = trained(SEQUENCE_EXAMPLES, None)
    best = best_epoch(rows)
    if best == 0 or not nothing_valid(lake.read(spark, INTERACTIONS)):
        return Learned(held_out, held_out, rows)
    return Learned(trained(SEQUENCE_EXAMPLES_ALL, best)[0], held_out, rows)


def best_epoch(rows: list[dict]) -> int:
    """Of the lowest held-out loss, the first; the last where nothing is held out."""
    losses = {row["epoch"]: row["valid_loss"] for row in rows if row["valid_loss"] is not None}
    return min(losses, key=lambda epoch: losses[epoch]) if losses else max(row["epoch"] for row in rows)


def drawn_by(config: "Deployment") -> dict[str, Any]:
    """What decides which rows are held out where none is valid."""
    return {"seed": config.seed, "split": hold_out_split(config).model_dump(mode="json")}


def saved(spark: SparkSession, lake: Lake, config: "Deployment", name: str = MODEL) -> Sequences:
    """The run date's model of this name.

    Raises UserError if it is not there, or was learned from other tables, or without other rows, than it would be now.
    """
    version = lake.model_of_date(name)
    learned = version.manifest["inputs"]
    for table in (
        INTERACTIONS,
        ITEM_VECTORS,
    ):  # it knows items by position, and must not have seen what it is chosen on
        if learned.get(table.name, {}).get("fingerprint") != lake.manifest(table).get("fingerprint"):
            raise UserError(
                f"the model sequence of run date {lake.run_date} learned from another {table.name} than is there now; "
                "run again from sequence"
            )
    if version.manifest.get(DRAWN) != drawn_by(config):
        raise UserError(
            f"the model sequence of run date {lake.run_date} has learned from rows that would be held out now: seed, preprocess.split or "
            "tune.validation has changed; run again from sequence"
        )
    path, _ = lake.read_version(name, version)
    return Sequences(path, task_threads(spark))


def list_parts(sequences: Sequences, catalogue: Catalogue, users: DataFrame) -> tuple[DataFrame, DataFrame]:
    """(item_id, vector) and (user_id, vector) under the model alone. users: (user_id, history) by positions of the catalogue."""
    positions = catalogue.positions(users.sparkSession)

    def of_items(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        vectors = sequences.items()
        for batch in batches:
            found = vector_column(vectors[batch.column("position").to_numpy()])
            yield pa.RecordBatch.from_arrays([batch.column("item_id"), found], ["item_id", "vector"])

    def of_users(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            found = vector_column(sequences.users(batch.column("history")))
            yield pa.RecordBatch.from_arrays([batch.column("user_id"), found], ["user_id", "vector"])

    item_type = positions.schema["item_id"].dataType.simpleString()
    items = positions.mapInArrow(of_items, f"item_id {item_type}, vector array<float>")
    # The order decides which are read together, and that the last bits: keep it by the ids alone.
    spread = int(users.sparkSession.conf.get("spark.sql.shuffle.partitions") or 8)
    histories = users.select("user_id", "history").repartition(spread, "user_id").sortWithinPartitions("user_id")
    return items, histories.mapInArrow(of_users, f"user_id {id_type(users)}, vector array<float>")


def sequences_of_ids(
    spark: SparkSession, lake: Lake, config: "Deployment", scratch: str
) -> tuple[Sequences, Sequences]:
    """As tonight's models (`sequence` and `sequence_held_out`) would be if they could not read: learned from the same examples, with
    vectors of their own for the items."""
    assert config.sequence is not None
    settings = config.sequence.model_copy(update={"inputs": "ids"})
    catalogue, _ = read_items(spark, lake, settings, scratch)
    learned = learn(spark, lake, config, settings, catalogue, (), "sequence_of_ids")

    def put(model: SequenceModel) -> Sequences:
        with TemporaryDirectory() as local:
            save_sequence(model, settings.shape, local)
            # Named by its content: a machine's copy of an earlier one must not be taken for it.
            folder = f"{scratch}/model-{folder_hash(Path(local))[:16]}"
            lake.put_folder(local, folder)
        return Sequences(folder, task_threads(spark))

    found = put(learned.night), put(learned.held_out)
    lake.clear_scratch("sequence_of_ids")
    return found
