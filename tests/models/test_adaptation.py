"""One contract over all members of the union."""

import copy
import typing
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaModel

from recspark.errors import UserError
from recspark.models.adaptation import Adaptation, BitFit, LastLayers, Lora, trainable
from recspark.models.encoder import TextEncoder, load_encoder

MEMBERS = typing.get_args(typing.get_args(Adaptation)[0])
SETTINGS = [m(layers=1) if m is LastLayers else m() for m in MEMBERS]
TEXT = torch.tensor([[2, 10, 11, 12, 3], [2, 30, 31, 3, 0]])
MASK = (TEXT != 0).long()

# Which parameters of a two-layer BERT learn, by how their names begin (after peft's prefix).
LEARNS = {
    "frozen": (),
    "full": ("embeddings.", "encoder.layer.0.", "encoder.layer.1."),
    "last_layers": ("encoder.layer.1.",),
    "lora": ("encoder.layer.0.", "encoder.layer.1."),
    "bitfit": ("embeddings.", "encoder.layer.0.", "encoder.layer.1."),
}


@pytest.mark.parametrize("adaptation", SETTINGS, ids=lambda a: a.kind)
def test_only_what_it_says_learns(tiny_encoder: Path, adaptation: typing.Any):
    encoder = load_encoder(tiny_encoder)
    adaptation.apply(encoder)
    names = [n.removeprefix("backbone.").removeprefix("base_model.model.") for n in trainable(encoder)]
    assert all(name.startswith(LEARNS[adaptation.kind]) for name in names)
    assert all(any(name.startswith(prefix) for name in names) for prefix in LEARNS[adaptation.kind])
    if adaptation.kind == "lora":
        assert all("lora_" in name for name in names)
    if adaptation.kind == "bitfit":
        assert all(name.endswith(".bias") for name in names)


@pytest.mark.parametrize("adaptation", SETTINGS, ids=lambda a: a.kind)
def test_a_new_adaptation_changes_no_vector(tiny_encoder: Path, adaptation: typing.Any):
    encoder = load_encoder(tiny_encoder)
    before = encoder(TEXT, MASK)
    adaptation.apply(encoder)
    torch.testing.assert_close(encoder(TEXT, MASK), before)


@pytest.mark.parametrize("adaptation", SETTINGS, ids=lambda a: a.kind)
def test_merged_gives_the_same_vectors_as_unmerged(tiny_encoder: Path, adaptation: typing.Any):
    encoder = load_encoder(tiny_encoder)
    adaptation.apply(encoder)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in trainable(encoder).values():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    learned = encoder(TEXT, MASK)
    merged = copy.deepcopy(encoder)
    adaptation.merge(merged)
    torch.testing.assert_close(merged(TEXT, MASK), learned, atol=1e-5, rtol=1e-5)
    assert not any("lora" in name for name, _ in merged.named_parameters())


@pytest.mark.parametrize("adaptation", SETTINGS, ids=lambda a: a.kind)
def test_learned_parameters_alone_restore_the_vectors(tiny_encoder: Path, adaptation: typing.Any):
    first, second = load_encoder(tiny_encoder), load_encoder(tiny_encoder)
    for encoder in (first, second):
        adaptation.apply(encoder)
    with torch.no_grad():
        for parameter in trainable(first).values():
            parameter.add_(0.05)
        kept = {name: p.clone() for name, p in trainable(first).items()}
        for name, parameter in trainable(second).items():
            parameter.copy_(kept[name])
    torch.testing.assert_close(second(TEXT, MASK), first(TEXT, MASK), atol=0, rtol=0)


def test_more_layers_than_there_are_is_an_error_with_the_number(tiny_encoder: Path):
    with pytest.raises(UserError, match="layers is 9, but the encoder has 2 layers"):
        LastLayers(layers=9).apply(load_encoder(tiny_encoder))


def test_lora_targets_that_match_nothing_are_an_error_with_the_names(tiny_encoder: Path):
    with pytest.raises(UserError, match=r"\['attn'\] match no linear map; names end in .*'query'"):
        Lora(targets=("attn",)).apply(load_encoder(tiny_encoder))


def test_lora_may_be_limited_to_the_top_layers_wherever_the_layers_stand():
    config = {
        "vocab_size": 50,
        "hidden_size": 16,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "intermediate_size": 32,
    }
    encoder = TextEncoder(LlamaModel(LlamaConfig(**config)))
    Lora(targets=("q_proj",), layers=1).apply(encoder)
    names = [n.removeprefix("backbone.base_model.model.") for n in trainable(encoder)]
    assert names
    assert all(name.startswith("layers.2.") for name in names)


def test_an_encoder_without_bias_terms_has_nothing_for_bitfit():
    config = {
        "vocab_size": 50,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
    }
    with pytest.raises(UserError, match="LlamaModel has no bias terms"):
        BitFit().apply(TextEncoder(LlamaModel(LlamaConfig(**config))))
