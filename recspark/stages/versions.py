"""Which version of the retriever a night uses, which one its vectors were made with, and what that version needs beside it.

A retriever belongs to a factorization: its prior is a place in the space of those user factors. So a version goes with the factor
tables of its own run date, and is of no use once these have become others.
"""

import datetime
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import Field

from recspark.config import Settings
from recspark.errors import UserError
from recspark.evaluation.card import model_card
from recspark.evaluation.verdict import METRIC
from recspark.lake import Lake
from recspark.lake.promotions import promoted
from recspark.lake.registry import Version
from recspark.tables import INTERACTIONS, ITEM_FACTORS, ITEM_VECTORS, ITEMS, USER_FACTORS, USER_VECTORS, Table

if TYPE_CHECKING:
    from recspark.pipeline import Deployment

RETRIEVER = "retriever"
RETRIEVER_VERSION = "retriever_version"  # in the manifests of vectors and of what is made from them
EMBEDDING = "embedding"  # in the manifests of vectors: the run of embed that made them
TONIGHT, PROMOTED, NEWEST = "tonight", "promoted", "newest"
CHOICE = re.compile(rf"{TONIGHT}|{PROMOTED}|{NEWEST}|\d{{4}}-\d\d-\d\d-[0-9a-f]{{8}}")


class Retrain(Settings):
    """When a night trains where embed.retriever is newest."""

    days: int = Field(7, ge=1, description="a version serves so many days, its own among them; then another is trained")
    quality_lost: float | None = Field(
        None,
        gt=0,
        le=1,
        description="or earlier: once the full model has lost this share of the nDCG@k it had on the version's own night, "
        "k the first of evaluate.ks",
    )


def settled(lake: Lake, config: "Deployment") -> tuple[str, str]:
    """What `embed.retriever` comes to tonight, `tonight` or what names a version; and why, where it was `newest`.

    Earlier nights alone decide, so a run that starts again, or a stage that is run by itself, decides alike.
    """
    settings = config.embed
    if settings.retriever != NEWEST:
        return settings.retriever, ""
    registry, days = lake.registry(RETRIEVER), settings.retrain.days
    dates = [date for date in registry.dates() if date < lake.run_date]
    version = registry.of_date(dates[-1]) if dates else None
    if version is None:
        return TONIGHT, "there is no version of an earlier date"
    age = (lake.run_date - version.run_date).days
    if age >= days:
        return TONIGHT, f"version {version.id} is {age} days old, and embed.retrain.days is {days}"
    for table, what in missing_factors(lake, version).items():
        return TONIGHT, f"the table {table} that version {version.id} was trained with {what}"
    lost = quality_lost(registry.metrics(version.id), version.run_date, lake.run_date, config.evaluate.ks[0])
    most = settings.retrain.quality_lost
    if most is not None and lost is not None and lost > most:
        return (
            TONIGHT,
            f"{lost:.0%} of what version {version.id} had on its own night is lost, and embed.retrain.quality_lost is {most:g}",
        )
    return version.id, f"it is {age} days old, and embed.retrain.days is {days}"


def quality_lost(
    metrics: dict[str, list[dict[str, Any]]], own: datetime.date, tonight: datetime.date, k: int
) -> float | None:
    """The share of the full model's nDCG@k on all items that the newest night before tonight lacks of the version's own; None where
    either was not measured."""
    wanted = {"model": "full", "slice": "all", "metric": METRIC, "k": k}
    found = {date: row["value"] for date, rows in metrics.items() for row in rows if wanted.items() <= row.items()}
    later = [date for date in sorted(found) if str(own) < date < str(tonight)]
    return 1 - found[later[-1]] / found[str(own)] if later and found.get(str(own)) else None


def chosen_retriever(lake: Lake, choice: str) -> Version:
    """The version that `embed.retriever` means, once it is `settled`.

    Raises UserError if it is not there, its files are damaged, or nothing is promoted.
    """
    if choice == TONIGHT:
        return lake.model_of_date(RETRIEVER)
    registry = lake.registry(RETRIEVER)
    version = promoted(registry) if choice == PROMOTED else choice
    if version is None:
        raise UserError(
            f"embed.retriever is promoted, but no version is promoted in the lake {lake.root}; "
            "recspark models promote VERSION, or set embed.retriever: tonight"
        )
    found = registry.version(version)
    found.require_whole()
    return found


def require_factors_of(lake: Lake, stage: str, version: Version) -> None:
    """UserError unless the factor tables of a version's run date are those that it was trained with."""
    for table, what in missing_factors(lake, version).items():
        raise UserError(
            f"{stage}: version {version.id} of the model retriever needs the table {table} of run date {version.run_date} "
            f"as it was trained with, but that {what}; run factorize of that date again with the settings in the version's "
            "manifest, or finetune it anew"
        )


def missing_factors(lake: Lake, version: Version) -> dict[str, str]:
    """Of the factor tables that a version was trained with, those that are not there as they were, or whose ids are of another type than those
    of tonight's log: name, and what is wrong."""
    wrong = {}
    for table, name in ((USER_FACTORS, "user_id"), (ITEM_FACTORS, "item_id")):
        trained = version.manifest["inputs"].get(table.name, {}).get("fingerprint")
        found = lake.manifest(table, version.run_date)["fingerprint"] if lake.has(table, version.run_date) else None
        if found is None or found != trained:
            wrong[table.name] = "is no longer there" if found is None else "belongs to another factorization"
        elif lake.has(INTERACTIONS):
            then, now = (
                type_in(manifest, name)
                for manifest in (lake.manifest(table, version.run_date), lake.manifest(INTERACTIONS))
            )
            if then and now and then != now:
                wrong[table.name] = f"has a {name} of type {then}, and tonight's log one of type {now}"
    return wrong


def type_in(manifest: Mapping[str, Any], column: str) -> str:
    """Of a column, in Spark's words, as a table's manifest has it; empty if it does not say."""
    found = re.search(rf"\b{column}:(decimal\(\d+,\d+\)|\w+)", manifest.get("schema", ""))
    return found[1] if found else ""


def vectors_version(lake: Lake, stage: str) -> str | None:
    """The version that item_vectors and user_vectors name; None where they name none.

    Raises UserError if they name two, or were made by two runs of embed.
    """
    if len({lake.manifest(t).get(EMBEDDING) for t in (ITEM_VECTORS, USER_VECTORS)}) > 1:
        raise UserError(
            f"{stage}: item_vectors and user_vectors of run date {lake.run_date} are of different runs, one of them cut short; "
            "run again from embed"
        )
    named = {t.name: lake.manifest(t).get(RETRIEVER_VERSION) for t in (ITEM_VECTORS, USER_VECTORS)}
    if len(set(named.values())) > 1:
        shown = " and ".join(f"{name} from {version}" for name, version in named.items())
        raise UserError(
            f"{stage}: the vectors of run date {lake.run_date} do not come from one version of the retriever ({shown}); "
            "run the stage embed again"
        )
    return named[ITEM_VECTORS.name]


def retriever_behind(lake: Lake, table: Table) -> Version:
    """The version that a table's manifest names; if it names none, the run date's own."""
    version = lake.manifest(table).get(RETRIEVER_VERSION)
    return lake.model_of_date(RETRIEVER) if version is None else lake.registry(RETRIEVER).version(version)


def learned_tonight(lake: Lake, version: Version) -> bool:
    """Whether a version was trained on the interactions and items that the run date has now."""
    learned = version.manifest["inputs"]
    same = (
        learned.get(t.name, {}).get("fingerprint") == lake.manifest(t).get("fingerprint") for t in (INTERACTIONS, ITEMS)
    )
    return version.run_date == lake.run_date and all(same)


def borrowed_version(lake: Lake, stage: str) -> Version | None:
    """The version behind the night's vectors, unless it was trained tonight or the vectors name none."""
    version = vectors_version(lake, stage)
    found = lake.registry(RETRIEVER).version(version) if version else None
    return None if found is None or learned_tonight(lake, found) else found


# ---- what people read of it


def keep_metrics(lake: Lake, version: str, rows: list[dict[str, Any]]) -> None:
    """Rows of tonight's table `metrics` beside the version of the retriever that they judge, and in its card."""
    lake.registry(RETRIEVER).keep_metrics(version, lake.run_date, rows)
    keep_card(lake, RETRIEVER, version)


def keep_card(lake: Lake, name: str, version: str) -> None:
    """The model card of a version, as its facts are now."""
    registry = lake.registry(name)
    registry.keep_card(version, model_card(name, registry.version(version), registry.metrics(version)))
