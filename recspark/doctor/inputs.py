"""Checks of what a run reads and writes: the stages' settings, lake, encoder, raw tables."""

import contextlib
import uuid
from pathlib import Path

import pyarrow.fs as pafs
from pyspark.sql import DataFrame

from recspark.data import raw
from recspark.data.sources import RawTable, file_errors, source_views
from recspark.doctor.checkup import Checkup
from recspark.errors import UserError
from recspark.pipeline import NIGHT
from recspark.runner import check
from recspark.stages.base_encoder import base_encoder
from recspark.stages.versions import TONIGHT, chosen_retriever, require_factors_of, settled


def stages(checkup: Checkup) -> str:
    """What the stages of a night have against their settings."""
    names = [name for name in NIGHT if getattr(checkup.deployment, name) is not None]
    check(checkup.deployment, names)
    return ", ".join(names)


def lake(checkup: Checkup) -> str:
    """Writes, reads and deletes a file of its own, and a table by Spark if Spark runs; leaves nothing behind."""
    lake, name = checkup.lake, f"doctor-{uuid.uuid4().hex[:8]}"
    made = [] if "://" in lake.root else missing(Path(lake.root))
    try:
        fs, folder = pafs.FileSystem.from_uri(lake.scratch(name))
        with fs.open_output_stream(f"{folder}/file") as stream:
            stream.write(b"recspark")
        with fs.open_input_stream(f"{folder}/file") as stream:
            if stream.read() != b"recspark":
                raise UserError(f"lake {lake.root} does not give back what was written to it")
        if checkup.started is not None:
            checkup.started.range(1).write.parquet(f"{lake.scratch(name)}/table")
            written = fs.get_file_info(pafs.FileSelector(f"{folder}/table"))
            if not any(info.base_name.endswith(".parquet") for info in written):
                raise UserError(
                    f"lake {lake.root} is not one place: the driver does not see what an executor wrote; put it on storage that all share"
                )
    except OSError as error:
        raise UserError(f"lake {lake.root} cannot be written to: {error}; set lake to a place where it can") from error
    finally:
        with contextlib.suppress(OSError):
            lake.clear_scratch(name)
            remove_empty(Path(lake.path("_scratch")), made)
    newest = "; written to, read and cleared" + (
        "" if checkup.started is not None else " (by the driver; Spark did not start)"
    )
    return f"{lake.root}{newest}"


def missing(folder: Path) -> list[Path]:
    """The folder and those above it that are not there, the deepest first."""
    return [place for place in (folder, *folder.parents) if not place.exists()]


def remove_empty(scratch: Path, made: list[Path]) -> None:
    """Remove the lake's scratch folder, and what of the lake's own folders was made for the check, as far as they are empty."""
    for place in (*sorted(scratch.glob("*"), reverse=True), scratch, *made):
        place.rmdir()


def encoder(checkup: Checkup) -> str:
    """Loads it as the run will, and encodes a text."""
    import torch

    from recspark.models.encoder import PRETRAINED, load_encoder, load_tokenizer, pad

    made = [date for date in checkup.lake.model_dates("pretrained") if date <= checkup.lake.run_date]
    if checkup.deployment.encoder.path == PRETRAINED and not made:
        return "the stage pretrain will make it"
    settings = base_encoder(checkup.lake, checkup.deployment.encoder)
    absent = [probe["host"] for probe in checkup.probes if not probe["encoder"]]
    if absent:
        raise UserError(
            f"encoder.path {settings.path} is not on {', '.join(absent)}; put it there, or on storage that all share"
        )
    tokenizer = load_tokenizer(settings.path, settings.max_length, settings.trust_remote_code)
    model = load_encoder(settings.path, settings.pooling, settings.trust_remote_code)
    tokens = tokenizer(["a text"])["input_ids"][0]
    with torch.inference_mode():
        vector = model(*pad([tokens]))[0]
    millions = sum(p.numel() for p in model.parameters()) / 1e6
    return f"{settings.path}: {len(vector)} dimensions, {millions:.1f} million parameters; texts are cut at {settings.max_length} tokens"


def retriever(checkup: Checkup) -> str:
    """The version that embed will take, whole, with its factor tables; the one that finetune will make needs no check."""
    choice, why = settled(checkup.lake, checkup.deployment)
    if choice == TONIGHT:
        return f"tonight's, as finetune will make it{f' ({why})' if why else ''}"
    version = chosen_retriever(checkup.lake, choice)
    require_factors_of(checkup.lake, "embed", version)
    return f"version {version.id}, by embed.retriever: {checkup.deployment.embed.retriever}; nothing will be trained"


def interactions(checkup: Checkup) -> str:
    settings = checkup.deployment.preprocess
    with source_views(checkup.session, settings.sources):
        frame = raw.read_interactions(checkup.session, settings.interactions, checkup.lake.run_date)
    return opened(
        checkup,
        "interactions",
        settings.interactions,
        frame,
        list(raw.column_names(settings.interactions.columns)),
    )


def items(checkup: Checkup) -> str:
    settings = checkup.deployment.preprocess
    with source_views(checkup.session, settings.sources):
        frame = raw.read_items(checkup.session, settings.items)
    if "interactions" in checkup.frames:
        raw.require_same_ids(checkup.frames["interactions"], frame, "item_id", "preprocess.items")
    return opened(checkup, "items", settings.items, frame, ["item_id", "text", "title", *settings.items.attributes])


def users(checkup: Checkup) -> str:
    settings = checkup.deployment.preprocess
    if settings.users is None:
        return "none given, none needed"
    with source_views(checkup.session, settings.sources):
        frame = raw.read_users(checkup.session, settings.users)
    if "interactions" in checkup.frames:
        raw.require_same_ids(checkup.frames["interactions"], frame, "user_id", "preprocess.users")
    return opened(checkup, "users", settings.users, frame, ["user_id", *settings.users.attributes])


def deny_list(checkup: Checkup) -> str:
    from recspark.stages.candidates import read_deny_list

    deny = checkup.deployment.candidates.deny
    if deny is None:
        return "none given, none needed"
    if "items" not in checkup.frames:
        raise UserError("not checked, for the items could not be read")
    denied = read_deny_list(checkup.session, deny, checkup.frames["items"].schema["item_id"].dataType)
    return f"{deny.path}: {denied.count():,} items"


def opened(checkup: Checkup, name: str, table: RawTable, frame: DataFrame, columns: list[str]) -> str:
    """Reads a first row; UserError without one."""
    with file_errors(f"preprocess.{name}"):
        if frame.first() is None:
            raise UserError(f"preprocess.{name}: {table.path or 'sql'} has no rows")
    checkup.frames[name] = frame
    ids = frame.schema[0].dataType.simpleString()
    return f"{table.path or 'by sql'} ({table.format if table.path else 'Spark SQL'}), ids are {ids}; has {', '.join(columns)}"
