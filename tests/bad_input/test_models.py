"""Models that do not go with the tables, or cannot be read: one clear error before anything is computed with them."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pyspark.sql import SparkSession

from recspark.errors import UserError
from recspark.lake import Lake
from recspark.models.encoder import EncoderConfig, load_encoder
from recspark.stages import factorize, provenance, versions
from recspark.stages.text_vectors import text_vectors
from recspark.tables import BASE_TEXT_VECTORS, INTERACTIONS, ITEM_FACTORS, ITEMS, USER_FACTORS, USERS
from tests.preprocess_world import World
from tests.tiny_encoder import make_tiny_encoder
from tests.vector_world import table_frame


@pytest.fixture
def world(spark: SparkSession, tmp_path: Path, tiny_encoder: Path) -> World:
    found = World(spark, tmp_path, tiny_encoder)
    found.run()
    return found


def refusal_of_factorize(world: World, **encoder: Any) -> str:
    config: Any = SimpleNamespace(encoder=EncoderConfig(**{**vars(world.encoder), **encoder}))
    config.factorize = factorize.FactorizeConfig()
    with pytest.raises(UserError) as caught:
        factorize.run(world.spark, world.lake, config)
    assert not world.lake.has(BASE_TEXT_VECTORS)
    return str(caught.value)


def test_items_cut_to_another_length(world: World) -> None:
    message = refusal_of_factorize(world, max_length=16)
    assert "tokenized by another encoder, or to another length, than the configuration says" in message
    assert "run again from preprocess" in message


def test_items_tokenized_for_another_encoder(world: World, tmp_path: Path) -> None:
    other = make_tiny_encoder(tmp_path / "other", seed=2)
    assert "tokenized by another encoder" in refusal_of_factorize(world, path=str(other))


def test_a_retriever_of_another_factorization(lake: Lake, tmp_path: Path) -> None:
    """The same rows again will do, whoever wrote them; others, or none, will not."""

    def factorize_to(users: str, items: str = "items as they were") -> None:
        for table, fingerprint in ((USER_FACTORS, users), (ITEM_FACTORS, items)):
            place = f"{table.name}/run_date={lake.run_date}/_manifest.json"
            lake.write_json(place, {"rows": 1, "fingerprint": fingerprint})

    (tmp_path / "model").mkdir()
    trained = {"user_factors": {"fingerprint": "as they were"}, "item_factors": {"fingerprint": "items as they were"}}
    lake.write_model("retriever", tmp_path / "model", inputs=trained)
    version = lake.model_of_date("retriever")
    factorize_to("as they were")
    versions.require_factors_of(lake, "embed", version)
    factorize_to("others")
    with pytest.raises(
        UserError, match=r"needs the table user_factors of run date 2026-01-02 .* another factorization"
    ):
        versions.require_factors_of(lake, "embed", version)
    factorize_to("as they were", "others")
    with pytest.raises(UserError, match=r"needs the table item_factors"):
        versions.require_factors_of(lake, "embed", version)
    lake.delete(USER_FACTORS.name)
    with pytest.raises(UserError, match=r"the table user_factors of run date 2026-01-02 .* is no longer there"):
        versions.require_factors_of(lake, "embed", version)


def test_factor_tables_of_a_run_that_was_cut_short(spark: SparkSession, lake: Lake, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()

    def factorized(run: str, whole: bool = True) -> None:
        about = {provenance.FACTORIZATION: run}
        lake.write(table_frame(spark, USER_FACTORS, [(1, 1, [0.5])]), USER_FACTORS, **about)
        lake.write(table_frame(spark, ITEM_FACTORS, [(1, 1, 1.0, [0.5], [0.5])]), ITEM_FACTORS, **about)
        if whole:
            lake.write_model("factors", tmp_path / "model", **about)

    factorized("first")
    provenance.require_one_factorization(lake, "finetune")
    factorized("second", whole=False)
    with pytest.raises(UserError, match="are of different runs, one of them cut short; run again from factorize"):
        provenance.require_one_factorization(lake, "finetune")


def test_a_log_and_items_of_two_runs_of_preprocess(spark: SparkSession, lake: Lake) -> None:
    for table, run in ((ITEMS, "first"), (INTERACTIONS, "first"), (USERS, "first")):
        lake.write(table_frame(spark, table, []), table, **{provenance.PREPROCESSED: run})
    provenance.require_one_preprocess(lake, "factorize")
    lake.write(table_frame(spark, ITEMS, []), ITEMS, **{provenance.PREPROCESSED: "second"})  # and then it was killed
    with pytest.raises(UserError, match="are of different runs, one of them cut short; run again from preprocess"):
        provenance.require_one_preprocess(lake, "factorize")


def test_weights_that_break_off(tiny_encoder: Path, tmp_path: Path) -> None:
    for file in tiny_encoder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(UserError, match="cannot be loaded"):
        load_encoder(tmp_path)


def test_weights_that_are_not_safetensors(tiny_encoder: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text((tiny_encoder / "config.json").read_text())
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(UserError, match=r"lacks model\.safetensors; weights are read from safetensors only"):
        load_encoder(tmp_path)


def test_vectors_of_texts_cut_otherwise_are_not_used_again(world: World) -> None:
    """Yesterday's vectors stand under the same model and text hash, but are of fewer tokens."""
    yesterday, today = world.lake, Lake(world.lake.root, world.lake.run_date.replace(day=25))
    encoder = EncoderConfig(path=world.encoder.path, tokens_per_batch=64)
    vectors_of: Any = lambda lake: text_vectors(  # noqa: E731
        world.spark, lake, BASE_TEXT_VECTORS, lake.read(world.spark, ITEMS), encoder, "the model"
    ).toPandas()
    short = vectors_of(yesterday).set_index("text_hash").vector
    world.lake, world.encoder.max_length = today, 12
    world.run()
    long = vectors_of(today).set_index("text_hash").vector
    assert sorted(long.index) == sorted(short.index)
    assert all(list(long[text]) != list(short[text]) for text in long.index)
