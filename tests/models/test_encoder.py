"""Encoders and decoders of the transformers library, as one thing."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from transformers import AutoModel, BertConfig, BertForMaskedLM, RobertaConfig, RobertaModel, T5Config, T5Model

from recspark.errors import UserError
from recspark.models.encoder import EncoderConfig, load_encoder, load_tokenizer, longest_text, pad
from recspark.models.factors import FactorSettings
from recspark.models.model_folder import content_hash, model_folder
from recspark.models.pooling import Pooling
from recspark.models.retriever import Retriever, load_retriever, save_retriever
from tests.tiny_encoder import make_tiny_decoder, make_tiny_encoder

TEXTS = ["a film", "one more film (2)", "x"]


@pytest.fixture(scope="module")
def tiny_decoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_decoder(tmp_path_factory.mktemp("decoder"))


@pytest.mark.parametrize("pooling", ["mean", "cls", "max", "last_token"])
@pytest.mark.parametrize("make", [make_tiny_encoder, make_tiny_decoder])
def test_a_saved_retriever_gives_others_the_same_vectors(tmp_path: Path, make, pooling: Pooling) -> None:
    """BERT and GPT-2, which has no token to pad with: alone, in a padded batch, and by sentence-transformers."""
    base = EncoderConfig(path=str(make(tmp_path / "base")), max_length=12, pooling=pooling)
    encoder = load_encoder(base.path, pooling)
    tokens = load_tokenizer(base.path, 12)(TEXTS, truncation=True, max_length=12)["input_ids"]
    with torch.no_grad():
        together = encoder(*pad(tokens)).numpy()
        alone = np.concatenate([encoder(*pad([t])).numpy() for t in tokens])
    np.testing.assert_allclose(together, alone, atol=1e-6)

    save_retriever(Retriever(encoder, np.ones((2, 16)), np.zeros(2)), base, FactorSettings(), tmp_path / "saved")
    assert load_retriever(tmp_path / "saved").encoder.pooling == pooling
    theirs = SentenceTransformer(str(tmp_path / "saved"), device="cpu").encode(TEXTS)
    np.testing.assert_allclose(theirs, together, atol=1e-6)


def test_prefixes_go_with_the_saved_model(tmp_path: Path, tiny_encoder: Path) -> None:
    base = EncoderConfig(path=str(tiny_encoder), query_prefix="query: ", passage_prefix="passage: ")
    retriever = Retriever(load_encoder(base.path), np.ones((2, 16)), np.zeros(2))
    save_retriever(retriever, base, FactorSettings(), tmp_path)
    assert SentenceTransformer(str(tmp_path), device="cpu").prompts == {"query": "query: ", "document": "passage: "}


def test_a_model_without_pooler_weights_gets_no_random_ones(tmp_path: Path, tiny_encoder: Path) -> None:
    """A masked language model's checkpoint has none; two loads must be one model."""
    BertForMaskedLM(BertConfig.from_pretrained(tiny_encoder)).save_pretrained(tmp_path)
    first, second = load_encoder(tmp_path), load_encoder(tmp_path)
    names = [name for name, _ in first.named_parameters()]
    assert names
    assert not any("pooler" in name for name in names)
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)


def test_an_encoder_decoder_is_refused(tmp_path: Path) -> None:
    T5Model(T5Config(vocab_size=20, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)).save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"is an encoder-decoder \(t5\); give an encoder or a decoder"):
        load_encoder(tmp_path)


def test_weights_in_several_files_are_a_model_too(tmp_path: Path, tiny_encoder: Path) -> None:
    shutil.copytree(tiny_encoder, tmp_path / "whole")
    AutoModel.from_pretrained(tiny_encoder).save_pretrained(tmp_path / "cut", max_shard_size="5KB")
    assert len(list((tmp_path / "cut").glob("*.safetensors"))) > 1
    ids, mask = torch.tensor([[2, 10, 3]]), torch.ones(1, 3, dtype=torch.long)
    assert torch.equal(load_encoder(tmp_path / "cut")(ids, mask), load_encoder(tmp_path / "whole")(ids, mask))


def test_the_hash_changes_with_weights_and_pooling(tmp_path: Path, tiny_encoder: Path) -> None:
    shutil.copytree(tiny_encoder, tmp_path / "same")
    assert content_hash(tmp_path / "same") == content_hash(tiny_encoder)
    (tmp_path / "same/1_Pooling").mkdir()
    (tmp_path / "same/1_Pooling/config.json").write_text(json.dumps({"pooling_mode_max_tokens": True}))
    assert content_hash(tmp_path / "same") != content_hash(tiny_encoder)
    assert content_hash(make_tiny_encoder(tmp_path / "other", seed=1)) != content_hash(tiny_encoder)


def test_positions_of_roberta_begin_behind_its_padding(tmp_path: Path, tiny_encoder: Path, tiny_decoder: Path) -> None:
    RobertaModel(
        RobertaConfig(
            vocab_size=9, hidden_size=4, num_hidden_layers=1, num_attention_heads=1, max_position_embeddings=34
        )
    ).save_pretrained(tmp_path)
    assert [longest_text(f) for f in (tmp_path, tiny_encoder, tiny_decoder)] == [32, 64, 64]


def test_a_text_longer_than_the_decoder_reads_is_an_error(tiny_decoder: Path) -> None:
    with pytest.raises(UserError, match=r"max_length is 65, but .* reads at most 64 tokens"):
        load_tokenizer(tiny_decoder, 65)


def test_a_hub_name_that_cannot_be_had_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(name: str, **_: object) -> str:
        raise OSError(f"no way to {name}\nat line 7")

    monkeypatch.setattr("huggingface_hub.snapshot_download", offline)
    with pytest.raises(
        UserError, match=r"org/model is not a folder here, and the hub does not give it: no way to org/model$"
    ):
        model_folder("org/model")


def test_a_hub_name_is_fetched(monkeypatch: pytest.MonkeyPatch, tiny_encoder: Path) -> None:
    asked: list = []
    monkeypatch.setattr(
        "huggingface_hub.snapshot_download", lambda *a, **k: asked.append((*a, k["revision"])) or str(tiny_encoder)
    )
    assert model_folder("org/model") == model_folder("org/model@v2") == tiny_encoder
    assert asked == [("org/model", None), ("org/model", "v2")]


def test_a_folder_without_a_tokenizer_is_an_error(tmp_path: Path, tiny_encoder: Path) -> None:
    for name in ("config.json", "model.safetensors"):
        shutil.copy(tiny_encoder / name, tmp_path)
    with pytest.raises(UserError, match=r"has no tokenizer; its folder lacks tokenizer.json, vocab.txt, vocab.json"):
        load_tokenizer(tmp_path, 8)
