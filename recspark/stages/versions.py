"""Which version of the retriever a night uses, which one its vectors were made with, and what that version needs beside it.

A retriever belongs to a factorization: its prior is a place in the space of those user factors. So a version goes with the factor
tables of its own run date, and is of no use once these have become others.
"""

import re
from typing import Any

from recspark.errors import UserError
from recspark.evaluation.card import model_card
from recspark.lake import Lake
from recspark.lake.promotions import promoted
from recspark.lake.registry import Version
from recspark.tables import INTERACTIONS, ITEM_FACTORS, ITEM_VECTORS, ITEMS, USER_FACTORS, USER_VECTORS, Table

RETRIEVER = "retriever"
RETRIEVER_VERSION = "retriever_version"  # in the manifests of vectors and of what is made from them
TONIGHT, PROMOTED = "tonight", "promoted"
CHOICE = re.compile(rf"{TONIGHT}|{PROMOTED}|\d{{4}}-\d\d-\d\d-[0-9a-f]{{8}}")


def chosen_retriever(lake: Lake, choice: str) -> Version:
    """The version that `embed.retriever` means.

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
    for table in (USER_FACTORS, ITEM_FACTORS):
        trained = version.manifest["inputs"].get(table.name, {}).get("fingerprint")
        found = lake.manifest(table, version.run_date)["fingerprint"] if lake.has(table, version.run_date) else None
        if found is None or found != trained:
            what = "is no longer there" if found is None else "belongs to another factorization"
            raise UserError(
                f"{stage}: version {version.id} of the model retriever needs the table {table.name} of run date {version.run_date} "
                f"as it was trained with, but that {what}; run factorize of that date again with the settings in the version's "
                "manifest, or finetune it anew"
            )


def vectors_version(lake: Lake, stage: str) -> str | None:
    """The version that item_vectors and user_vectors name; None where they name none.

    Raises UserError if they name two.
    """
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
