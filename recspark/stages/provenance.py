"""What a table or model was made with, kept in its manifest, and looked at before another stage goes on from it.

Stages run one by one, days apart, with settings that may have changed in between: vectors of two encoders have the same
shape, and nothing would look wrong but the lists.
"""

from collections.abc import Sequence
from typing import Any

from recspark.errors import UserError
from recspark.lake import Lake
from recspark.models.encoder import EncoderConfig
from recspark.models.model_folder import content_hash
from recspark.tables import INTERACTIONS, ITEM_FACTORS, ITEMS, USER_FACTORS, USERS, Table

TOKENIZED_BY = "tokenized_by"  # in the manifests of items, text vectors and models
PREPROCESSED = "preprocessed"  # in the manifests of interactions, items and users: which run of preprocess wrote them
FACTORIZATION = "factorization"  # in the manifests of the factor tables and of the model `factors`


def tokenized_by(encoder: EncoderConfig) -> dict[str, Any]:
    """The encoder's content and pooling, the length texts are cut to, and what is put before them.

    encoder: with a path that holds, see `base_encoder`.
    """
    pooled = f"{content_hash(encoder.path)}-{encoder.pooling}" if encoder.pooling else content_hash(encoder.path)
    return {"encoder": pooled, "max_length": encoder.max_length, "prefix": encoder.passage_prefix}


def require_same_tokens(lake: Lake, stage: str, wanted: dict[str, Any], whose: str) -> None:
    """UserError if the items of this run date were tokenized otherwise than `whose` (settings or a model) says."""
    if lake.manifest(ITEMS).get(TOKENIZED_BY) != wanted:
        raise UserError(
            f"{stage}: the items of run date {lake.run_date} were tokenized by another encoder, or to another length, than "
            f"{whose} says; run again from preprocess, or set the section encoder as it was"
        )


def require_one_preprocess(lake: Lake, stage: str) -> None:
    """UserError if interactions, items and users were not written by one run of preprocess."""
    there = [table for table in (INTERACTIONS, ITEMS, USERS) if lake.has(table)]
    if len({run for table in there if (run := lake.manifest(table).get(PREPROCESSED))}) > 1:
        raise UserError(
            f"{stage}: interactions, items and users of run date {lake.run_date} are of different runs, one of them cut short; run again "
            "from preprocess"
        )


def require_one_factorization(lake: Lake, stage: str) -> None:
    """UserError if the factor tables and the model `factors` were not written by one run of factorize."""
    manifests = (lake.manifest(USER_FACTORS), lake.manifest(ITEM_FACTORS), lake.model_manifest("factors"))
    if len({manifest.get(FACTORIZATION) for manifest in manifests}) > 1:
        raise UserError(
            f"{stage}: user_factors, item_factors and the model factors of run date {lake.run_date} are of different runs, one of "
            "them cut short; run again from factorize"
        )


def require_made_from(lake: Lake, made: Table, sources: Sequence[Table], again: str) -> None:
    """UserError if a source of this run date is another now than when the table was made from it. again: the stage to run from.

    A source that the table's manifest does not name is not looked at.
    """
    inputs = lake.manifest(made).get("inputs", {})
    for source in sources:
        then = inputs.get(source.name)
        if then is not None and then.get("fingerprint", "") != lake.manifest(source).get("fingerprint", ""):
            raise UserError(
                f"{made.name} of run date {lake.run_date} was made from another {source.name} than is there now; run again from {again}"
            )


def require_vectors_of(lake: Lake, stage: str, table: Table, found: str | None, model_hash: str) -> None:
    """UserError unless the vectors of a table are there (`found` is the model hash of a row, None of no row) and a retriever's."""
    if found is None:
        raise UserError(f"{stage}: table {table.name} of run date {lake.run_date} is empty; run the stage embed again")
    if found != model_hash:
        raise UserError(
            f"{stage}: {table.name} of run date {lake.run_date} come from another model ({found[:12]}…) than the text vectors' "
            f"({model_hash[:12]}…); run again from embed"
        )
