"""Sixty short texts, one rank in this process: what the stage leaves, when it runs again, and what it refuses."""

import datetime
import json
import logging
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from recspark.config import ConfigError, parse
from recspark.data.sources import Source
from recspark.errors import UserError
from recspark.lake import Lake
from recspark.models.encoder import EncoderConfig, load_encoder, load_tokenizer
from recspark.pipeline import Deployment
from recspark.stages import preprocess, pretrain
from recspark.stages.base_encoder import base_encoder
from recspark.tables import ITEMS, PRETRAINING_BLOCKS, PRETRAINING_LOG
from recspark.training import loop
from tests.preprocess_world import World
from tests.spark_memory import kept

TEXTS = [
    f"the {colour} {thing} number {n}" for n in range(5) for colour in ("red", "blue", "green") for thing in "abcd"
]
START = {"kind": "bert", "layers": 1, "hidden_size": 16, "heads": 2, "positions": 32}
LEARN = {"kind": "wordpiece", "size": 60}
SETTINGS: dict[str, Any] = {
    "start": START,
    "vocabulary": LEARN,
    "block_length": 16,
    "held_out": 0.2,
    "epochs": 4,
    "batch_size": 8,
    "warmup_steps": 2,
    "learning_rate": 1e-2,
    "launcher": "local",
    "num_processes": 1,
    "reader": "arrow",
}


class Corpus(World):
    """A raw world whose items are the texts."""

    def pretrain_lake(self, day: int = 24) -> Lake:
        return Lake(self.lake.root, datetime.date(2026, 11, day))

    def pretrain(self, day: int = 24, **changes: Any) -> Lake:
        """Run the stage; returns the lake of that day."""
        lake = self.pretrain_lake(day)
        settings = parse({**SETTINGS, **changes}, pretrain.PretrainConfig, [])
        config: Any = SimpleNamespace(
            pretrain=settings,
            preprocess=parse({**self.settings}, preprocess.PreprocessConfig, []),
            encoder=EncoderConfig(),
            seed=42,
        )
        pretrain.run(self.spark, lake, config)
        return lake


@pytest.fixture
def corpus(spark: SparkSession, tmp_path: Path, tiny_encoder: Path) -> Corpus:
    world = Corpus(spark, tmp_path, tiny_encoder)
    world.give("items", [{"item_id": f"i{n}", "title": text} for n, text in enumerate(TEXTS)])
    return world


def test_a_model_is_made_that_the_next_stages_take(corpus: Corpus, caplog: pytest.LogCaptureFixture):
    before = kept(corpus.spark)
    with caplog.at_level(logging.INFO, "recspark"):
        lake = corpus.pretrain()
    log = lake.read(corpus.spark, PRETRAINING_LOG).orderBy("epoch").collect()
    assert [row["epoch"] for row in log] == [0, 1, 2, 3, 4]
    assert log[-1]["train_loss"] < log[1]["train_loss"]
    assert log[-1]["valid_loss"] < log[0]["valid_loss"]
    about = lake.model_manifest("pretrained")
    assert about["perplexity_after"] < about["perplexity_before"]
    assert "perplexity on held-out text" in caplog.text
    assert kept(corpus.spark) <= before

    blocks = lake.read(corpus.spark, PRETRAINING_BLOCKS)
    assert {row["part"] for row in blocks.collect()} == {"train", "valid"}
    assert blocks.agg(F.max(F.length("tokens"))).first()[0] == 16 * 4

    encoder = base_encoder(lake, EncoderConfig(max_length=12))
    assert load_encoder(encoder.path).embedding_size == 16
    tokens = load_tokenizer(encoder.path, 12)("the red a number 3")["input_ids"]
    corpus.encoder.path, corpus.encoder.max_length = "lake:pretrained", 12
    corpus.give("items", [{"item_id": f"i{n}", "title": "the red a number 3"} for n in range(5)])
    corpus.run()
    assert {tuple(row["token_ids"]) for row in corpus.table("items")} == {tuple(tokens)}
    assert lake.manifest(ITEMS)["tokenized_by"]["max_length"] == 12


def test_it_is_made_again_only_when_it_must(corpus: Corpus):
    once = {"epochs": 1}
    first = corpus.pretrain(day=1, **once)
    assert corpus.pretrain(day=2, **once).model_dates("pretrained") == [first.run_date]
    assert corpus.pretrain(day=3, **once, stall_timeout=9.0).model_dates("pretrained") == [first.run_date]
    assert len(corpus.pretrain(day=4, **once, refresh_days=3).model_dates("pretrained")) == 2
    assert len(corpus.pretrain(day=5, **once, refresh_days=3).model_dates("pretrained")) == 2
    assert len(corpus.pretrain(day=6, **once, block_length=12).model_dates("pretrained")) == 3
    corpus.settings["items"]["text"] = "a {title}"
    assert len(corpus.pretrain(day=7, **once, block_length=12).model_dates("pretrained")) == 4


def test_a_causal_model_is_made_from_texts_of_their_own(corpus: Corpus):
    (corpus.folder / "books").mkdir()
    rows = [{"head": text, "page": "a page"} for text in TEXTS]
    (corpus.folder / "books/1.jsonl").write_text("\n".join(json.dumps(r) for r in rows))
    corpus.settings["sources"] = {"books": Source(path=str(corpus.folder / "books"), format="jsonl").model_dump()}
    lake = corpus.pretrain(
        start={**START, "kind": "gpt2"},
        vocabulary={"kind": "bpe", "size": 320},
        objective={"kind": "causal_lm"},
        corpus={"sql": "SELECT head, page FROM books WHERE head LIKE '%red%'", "text": "{head}. {page}"},
        epochs=1,
    )
    path, _ = lake.read_model("pretrained")
    assert load_encoder(path, "last_token").backbone.config.model_type == "gpt2"
    assert lake.traffic[0].rows == 20


def test_a_model_goes_on_with_its_own_vocabulary(corpus: Corpus, tiny_encoder: Path):
    lake = corpus.pretrain(start={"kind": "continued", "path": str(tiny_encoder)}, vocabulary={"kind": "of_model"})
    path, _ = lake.read_model("pretrained")
    own = load_tokenizer(tiny_encoder, 8)("a text")["input_ids"]
    assert load_tokenizer(path, 8)("a text")["input_ids"] == own
    assert (
        lake.model_manifest("pretrained")["perplexity_after"] < lake.model_manifest("pretrained")["perplexity_before"]
    )


def test_a_killed_training_goes_on_from_its_checkpoint(corpus: Corpus, monkeypatch: pytest.MonkeyPatch, caplog):
    real = loop.train_epoch

    def die_in_the_third(*args, **kwargs):
        if args[-1] == 3:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    monkeypatch.setattr(loop, "train_epoch", die_in_the_third)
    with pytest.raises(KeyboardInterrupt):
        corpus.pretrain()
    assert corpus.pretrain_lake().model_dates("pretrained") == []
    monkeypatch.setattr(loop, "train_epoch", real)
    with caplog.at_level(logging.INFO, "recspark"):
        corpus.pretrain()
    assert "going on from the checkpoint of epoch 2" in caplog.text
    assert corpus.pretrain_lake().read(corpus.spark, PRETRAINING_LOG).count() == 5


def test_an_empty_corpus_is_an_error(corpus: Corpus):
    corpus.give("items", [{"item_id": "i0", "title": "the"}, {"item_id": "i1", "title": None}])
    with pytest.raises(UserError, match=r"the corpus is empty.*look at pretrain.corpus and pretrain.stop_words"):
        corpus.pretrain(stop_words="english")


def test_a_corpus_of_one_line_is_learned_without_a_perplexity(corpus: Corpus, caplog: pytest.LogCaptureFixture):
    """One text, shorter than a block: one block, nothing held out."""
    corpus.give("items", [{"item_id": "i0", "title": "red film"}])
    with caplog.at_level(logging.WARNING, "recspark"):
        lake = corpus.pretrain(held_out=0.0, block_length=32, epochs=1)
    assert lake.read(corpus.spark, PRETRAINING_BLOCKS).count() == 1
    assert "perplexity_after" not in lake.model_manifest("pretrained")
    assert "0 blocks are held out, too few for a perplexity" in caplog.text


def test_fewer_blocks_than_ranks_is_an_error(corpus: Corpus):
    corpus.give("items", [{"item_id": "i0", "title": "red film"}])
    with pytest.raises(UserError, match="makes 1 blocks of 16 tokens to learn from, too few for 2 ranks"):
        corpus.pretrain(held_out=0.0, num_processes=2, launcher="torch")


def test_a_column_that_is_not_there_is_an_error(corpus: Corpus):
    corpus.settings["items"]["text"] = "{name}"
    with pytest.raises(UserError, match=r"preprocess.items: lacks column 'name'"):
        corpus.pretrain()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vocabulary": {"kind": "of_model"}}, "a new model needs a vocabulary"),
        ({"start": {"kind": "continued", "path": "x"}}, "a model that is continued keeps its vocabulary"),
        ({"objective": {"kind": "causal_lm"}}, "start bert does not learn by objective causal_lm"),
        ({"stop_words": "klingon"}, "danish.*klingon"),
        ({"block_length": 64}, "block_length 64 is more than start.positions 32"),
        ({"corpus": {"path": "x", "text": "no column"}}, "names no column"),
        (
            {"start": {"kind": "continued", "path": "x"}, "vocabulary": {"kind": "of_model", "path": "y"}},
            "keeps its vocabulary: leave out pretrain.vocabulary.path",
        ),
    ],
)
def test_parts_that_do_not_fit_are_errors_of_the_configuration(changes: dict, message: str):
    with pytest.raises(ConfigError, match=message):
        parse({**SETTINGS, **changes}, pretrain.PretrainConfig, [])


def test_without_encoder_or_pretrain_there_is_nothing_to_read_the_texts(corpus: Corpus):
    with pytest.raises(ConfigError, match=r"encoder.path is required: .* or a section pretrain"):
        parse({"lake": "lake", "preprocess": {**corpus.settings}}, Deployment, [])
    with pytest.raises(
        UserError, match="has no model pretrained of run date 2026-11-24 or before; run the stage pretrain"
    ):
        base_encoder(corpus.lake, EncoderConfig())


def test_a_new_model_with_fewer_positions_than_the_items_texts_is_an_error(corpus: Corpus):
    sections = {"preprocess": {**corpus.settings}, "pretrain": SETTINGS, "encoder": {"max_length": 600}}
    with pytest.raises(ConfigError, match=r"encoder.max_length is 600, more than the \d+ of pretrain.start.positions"):
        parse({"lake": "lake", **sections}, Deployment, [])


def test_the_stage_without_its_section_is_an_error(spark: SparkSession, lake: Lake):
    with pytest.raises(UserError, match="the configuration has no section pretrain"):
        pretrain.run(spark, lake, SimpleNamespace(pretrain=None))  # type: ignore[arg-type]


def test_a_pooling_that_is_none_of_ours_is_an_error_before_the_training(tiny_encoder: Path, tmp_path: Path):
    shutil.copytree(tiny_encoder, tmp_path / "model")
    (tmp_path / "model" / "1_Pooling").mkdir()
    (tmp_path / "model" / "1_Pooling" / "config.json").write_text('{"pooling_mode_weightedmean_tokens": true}')
    start = pretrain.Continued(path=str(tmp_path / "model"))
    with pytest.raises(UserError, match=r"set encoder\.pooling"):
        pretrain.pooling_to_keep(start, EncoderConfig())
    assert pretrain.pooling_to_keep(start, EncoderConfig(pooling="cls")) == "cls"
