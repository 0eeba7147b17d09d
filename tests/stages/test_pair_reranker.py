"""A cross-encoder on the ring, from the lessons to the lists, with one rank in this process."""

import shutil

import numpy as np
import pyarrow as pa
import pytest

from recspark.errors import UserError
from recspark.lake import local_folder
from recspark.models.adaptation import Full
from recspark.models.cross_encoder import PairFormat, load_cross_encoder
from recspark.models.encoder import EncoderConfig, load_tokenizer
from recspark.retrieval.encode import scores_of
from recspark.stages import rerank
from recspark.stages.pair_reranker import CrossEncoderReranker
from recspark.stages.provenance import tokenized_by
from recspark.tables import ITEMS, RERANKER_EXAMPLES, RERANKER_LOG
from tests.ring_world import NOBODY, RING, USERS, reranked, settings, write_lake, write_manifest
from tests.table_rows import write

MODEL = CrossEncoderReranker(
    depth=4,
    layers=1,
    adaptation=Full(learning_rate=1e-3),
    negatives=2,
    history_tokens=12,
    item_tokens=6,
    epochs=1,
    batch_size=4,
    num_processes=1,
    launcher="local",
    reader="arrow",
)


def write_items(lake, encoder: EncoderConfig) -> list[np.ndarray]:
    """Items called a, bb, ccc, …; returns their tokens."""
    tokenizer = load_tokenizer(encoder.path, encoder.max_length)
    titles = [chr(ord("a") + i) * (1 + i % 3) for i in range(RING)]
    tokens = [tokenizer(t, truncation=True, max_length=encoder.max_length)["input_ids"] for t in titles]
    rows = [(i, titles[i], titles[i], f"text-{i}", tokens[i], {}) for i in range(RING)]
    write(lake, ITEMS, rows, pa.int64())
    write_manifest(lake, ITEMS, rows, tokenized_by=tokenized_by(encoder))
    return [np.array(t, np.int32) for t in tokens]


def test_pairs_are_learned_from_scored_and_put_in_order(spark, tmp_path, tiny_encoder):
    lake, lists = write_lake(tmp_path, valid=True)
    encoder = EncoderConfig(path=str(tiny_encoder), max_length=8)
    tokens = write_items(lake, encoder)
    config = settings(model=MODEL)
    config.encoder = encoder
    rerank.run(spark, lake, config)
    found = reranked(spark, lake)
    assert {user: sorted(one.item_id) for user, one in found.items()} == {u: sorted(i) for u, i in lists.items()}
    assert found[0].reranker_score.isna().tolist() == [False] * 4 + [True] * 3
    assert found[NOBODY].reranker_score.isna().all()
    examples = lake.read(spark, RERANKER_EXAMPLES).collect()
    assert 0 < len(examples) <= USERS
    assert {len(np.frombuffer(row.lengths, "<i4")) for row in examples} == {3}
    assert [row.epoch for row in lake.read(spark, RERANKER_LOG).orderBy("epoch").collect()] == [0, 1]

    # User 0 has had items 0 to 3 (train) and 4 (valid): the model of the lake gives its first item the score of the table.
    form = PairFormat.of(load_tokenizer(tiny_encoder, 8))
    history = form.history([form.bare(tokens[i]) for i in (4, 3, 2, 1, 0)], 16, 12)
    first = found[0].iloc[0]
    pair = form.pair(history, form.bare(tokens[int(first.item_id)])[:6])
    model = load_cross_encoder(local_folder(lake.model_of_date("reranker").path))
    assert scores_of(model, [pair], 64)[0] == pytest.approx(first.reranker_score, abs=1e-5)


def test_pairs_that_are_longer_than_the_encoder_reads_are_refused(tiny_encoder):
    encoder = EncoderConfig(path=str(tiny_encoder))
    form = PairFormat.of(load_tokenizer(tiny_encoder, 8))
    with pytest.raises(UserError, match=r"history_tokens 60, item_tokens 6 and 3 marks are 69 tokens, .* at most 64"):
        MODEL.model_copy(update={"history_tokens": 60}).require_room(encoder, form)


def test_an_encoder_with_more_than_a_cross_encoder_keeps_is_refused_before_the_training(tiny_encoder, tmp_path):
    shutil.copytree(tiny_encoder, tmp_path / "prompted")
    (tmp_path / "prompted" / "recspark.json").write_text('{"prompt_ids": [5, 6]}')
    form = PairFormat.of(load_tokenizer(tiny_encoder, 8))
    with pytest.raises(UserError, match="has a prompt or adapters beside its backbone"):
        MODEL.require_room(EncoderConfig(path=str(tmp_path / "prompted")), form)
