"""One contract over all members of the union, on a small BERT and a small GPT-2."""

import copy
import typing
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer
from transformers import AutoModel, LlamaConfig, LlamaModel

from recspark.errors import UserError
from recspark.models.adaptation import Adaptation, Adapter, BitFit, LastLayers, Lora, Prompt, layer_stack, trainable
from recspark.models.encoder import EncoderConfig, TextEncoder, load_encoder, load_tokenizer, pad
from recspark.models.factors import FactorSettings
from recspark.models.retriever import Retriever, load_retriever, save_retriever
from tests.tiny_encoder import make_tiny_decoder, make_tiny_encoder

MEMBERS = typing.get_args(typing.get_args(Adaptation)[0])
SETTINGS = [
    *(m() for m in MEMBERS if m not in (LastLayers, Adapter, Prompt)),
    LastLayers(layers=1),
    Adapter(size=4),
    Adapter(size=4, placement="pfeiffer", layers=1),
    Prompt(tokens=3),
]
TEXTS = ["a film", "one more film (2)", "x", "a text that is cut as it is longer than twelve tokens"]
TEXT = torch.tensor([[2, 10, 11, 12, 3], [2, 30, 31, 3, 0]])
MASK = (TEXT != 0).long()

# Which parameters learn (16 wide, 32 between, 2 layers), by how their names begin, after the model's own prefix. BERT; GPT-2.
LEARNS = {
    "frozen": ((), ()),
    "full": (("embeddings.", "encoder.layer.0.", "encoder.layer.1."), ("wte", "wpe", "h.0.", "h.1.", "ln_f")),
    "last_layers": (("encoder.layer.1.",), ("h.1.",)),
    "lora": (
        tuple(
            f"encoder.layer.{i}.attention.{m}.lora_"
            for i in (0, 1)
            for m in ("self.query", "self.key", "self.value", "output.dense")
        ),
        ("h.0.attn.c_attn.lora_", "h.1.attn.c_attn.lora_"),
    ),
    "bitfit": (("embeddings.", "encoder.layer.0.", "encoder.layer.1."), ("h.0.", "h.1.", "ln_f")),
    "adapter-houlsby": (
        tuple(f"encoder.layer.{i}.{m}output.dense." for i in (0, 1) for m in ("attention.", "")),
        tuple(f"h.{i}.{m}.c_proj." for i in (0, 1) for m in ("attn", "mlp")),
    ),
    "adapter-pfeiffer": (("encoder.layer.1.output.dense.",), ("h.1.mlp.c_proj.",)),
    "prompt": (("embeddings.word_embeddings.prompt_PH",), ("wte.prompt_PH",)),
}
COUNTS = {
    "frozen": (0, 0),
    "lora": (2 * 4 * 8 * (16 + 16), 2 * 8 * (16 + 48)),
    "adapter-houlsby": (4 * (4 * 16 + 4 + 16 * 4 + 16),) * 2,
    "adapter-pfeiffer": (4 * 16 + 4 + 16 * 4 + 16,) * 2,
    "prompt": (3 * 16, 3 * 16),
}


def name_of(adaptation: typing.Any) -> str:
    return f"adapter-{adaptation.placement}" if adaptation.kind == "adapter" else adaptation.kind


@pytest.fixture(scope="module", params=[make_tiny_encoder, make_tiny_decoder], ids=["bert", "gpt2"])
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> EncoderConfig:
    return EncoderConfig(path=str(request.param(tmp_path_factory.mktemp("base"))), max_length=12)


every = pytest.mark.parametrize("adaptation", SETTINGS, ids=name_of)


def tokens_of(folder: str | Path, max_length: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    return pad(load_tokenizer(folder, max_length)(TEXTS, truncation=True, max_length=max_length)["input_ids"])


def learned(base: EncoderConfig, adaptation: typing.Any) -> TextEncoder:
    """An encoder, adapted, whose learning parameters have moved."""
    encoder = load_encoder(base.path)
    adaptation.apply(encoder)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in trainable(encoder).values():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return encoder


@every
def test_only_what_it_says_learns(base: EncoderConfig, adaptation: typing.Any):
    encoder = load_encoder(base.path)
    adaptation.apply(encoder)
    names = [n.removeprefix("backbone.").removeprefix("base_model.model.") for n in trainable(encoder)]
    bert = encoder.backbone.config.model_type == "bert"
    begins = LEARNS[name_of(adaptation)][0 if bert else 1]
    assert all(name.startswith(begins) for name in names)
    assert all(any(name.startswith(begin) for name in names) for begin in begins)
    if adaptation.kind == "bitfit":
        assert all(name.endswith(".bias") for name in names)
    if adaptation.kind == "adapter":
        assert not any(".inner." in name for name in names)
    if counts := COUNTS.get(name_of(adaptation)):
        assert sum(p.numel() for p in trainable(encoder).values()) == counts[0 if bert else 1]


@every
def test_every_parameter_that_learns_gets_a_gradient(base: EncoderConfig, adaptation: typing.Any):
    """Ranks would wait for one that does not."""
    encoder = load_encoder(base.path)
    adaptation.apply(encoder)
    if trainable(encoder):
        (encoder(TEXT, MASK) * torch.arange(16)).sum().backward()
    assert [name for name, p in trainable(encoder).items() if p.grad is None] == []


@every
def test_a_new_adaptation_changes_no_vector_but_a_prompt_does(base: EncoderConfig, adaptation: typing.Any):
    encoder = load_encoder(base.path)
    before = encoder(TEXT, MASK)
    adaptation.apply(encoder)
    if adaptation.kind == "prompt":
        assert (encoder(TEXT, MASK) - before).abs().max() > 0.01
    else:
        torch.testing.assert_close(encoder(TEXT, MASK), before)


@every
def test_merged_gives_the_same_vectors_as_unmerged(base: EncoderConfig, adaptation: typing.Any):
    encoder = learned(base, adaptation)
    vectors, merged = encoder(TEXT, MASK), copy.deepcopy(encoder)
    assert adaptation.kind == "frozen" or (vectors - load_encoder(base.path)(TEXT, MASK)).abs().max() > 0.001
    adaptation.merge(merged)
    torch.testing.assert_close(merged(TEXT, MASK), vectors, atol=1e-5, rtol=1e-5)
    assert not any("lora" in name or "prompt" in name for name, _ in merged.named_parameters())


@every
def test_learned_parameters_alone_restore_the_vectors(base: EncoderConfig, adaptation: typing.Any):
    """They are what a checkpoint keeps."""
    first, second = learned(base, adaptation), load_encoder(base.path)
    adaptation.apply(second)
    kept = {name: p.detach().clone() for name, p in trainable(first).items()}
    with torch.no_grad():
        for name, parameter in trainable(second).items():
            parameter.copy_(kept[name])
    torch.testing.assert_close(second(TEXT, MASK), first(TEXT, MASK), atol=0, rtol=0)


@every
def test_a_published_model_gives_the_same_vectors_here_and_the_same_or_none_elsewhere(
    tmp_path: Path, base: EncoderConfig, adaptation: typing.Any
):
    encoder = learned(base, adaptation)
    adaptation.merge(encoder)
    save_retriever(Retriever(encoder, np.ones((2, 16)), np.zeros(2)), base, FactorSettings(), tmp_path)
    token_ids, mask = tokens_of(base.path)
    vectors, loaded = encoder(token_ids, mask), load_retriever(tmp_path).encoder(token_ids, mask)
    torch.testing.assert_close(loaded, vectors, atol=0, rtol=0)
    assert torch.equal(tokens_of(tmp_path)[0], token_ids)  # to be fine-tuned further or asked, in the same tokens
    if adaptation.kind == "adapter":
        for load in (AutoModel.from_pretrained, SentenceTransformer):
            with pytest.raises((ValueError, OSError), match=tmp_path.name):
                load(str(tmp_path))
    else:
        theirs = SentenceTransformer(str(tmp_path), device="cpu").encode(TEXTS)
        np.testing.assert_allclose(theirs, vectors.detach(), atol=1e-6)


def test_the_published_adapters_are_a_file_of_their_own_beside_the_backbone_as_it_was(
    tmp_path: Path, base: EncoderConfig
):
    encoder = learned(base, Adapter(size=4))
    save_retriever(Retriever(encoder, np.ones((2, 16)), np.zeros(2)), base, FactorSettings(), tmp_path)
    assert sum(t.numel() for t in load_file(tmp_path / "adapter.safetensors").values()) == 4 * (4 * 32 + 4 + 16)
    before = load_file(Path(base.path) / "model.safetensors")
    after = load_file(tmp_path / "backbone" / "model.safetensors")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


@every
def test_a_published_model_may_be_adapted_again(tmp_path: Path, base: EncoderConfig, adaptation: typing.Any):
    """As a first encoder: what it had stays, and the second way comes on top."""
    encoder = learned(base, adaptation)
    adaptation.merge(encoder)
    save_retriever(Retriever(encoder, np.ones((2, 16)), np.zeros(2)), base, FactorSettings(), tmp_path / "one")
    again = EncoderConfig(path=str(tmp_path / "one"), max_length=12)
    second = learned(again, LastLayers(layers=1))
    save_retriever(Retriever(second, np.ones((2, 16)), np.zeros(2)), again, FactorSettings(), tmp_path / "two")
    loaded = load_retriever(tmp_path / "two").encoder
    torch.testing.assert_close(loaded(TEXT, MASK), second(TEXT, MASK), atol=0, rtol=0)
    assert (second(TEXT, MASK) - encoder(TEXT, MASK)).abs().max() > 0.001


def tiny_llama() -> TextEncoder:
    config = {
        "vocab_size": 50,
        "hidden_size": 16,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "intermediate_size": 32,
    }
    return TextEncoder(LlamaModel(LlamaConfig(**config)))


@pytest.mark.parametrize(
    ("adaptation", "learns"),
    [
        (Lora(layers=1), ("self_attn.q_proj", "self_attn.v_proj")),
        (Lora(targets=("up_proj",), layers=1), ("mlp.up_proj",)),
        (Adapter(layers=1), ("self_attn.o_proj", "mlp.down_proj")),
    ],
    ids=["lora", "lora with targets", "adapter"],
)
def test_the_top_layers_alone_are_adapted_wherever_they_stand(adaptation: typing.Any, learns: tuple[str, ...]):
    encoder = tiny_llama()
    adaptation.apply(encoder)
    names = [n.removeprefix("backbone.").removeprefix("base_model.model.") for n in trainable(encoder)]
    assert {".".join(name.split(".")[:4]) for name in names} == {f"layers.2.{part}" for part in learns}


def test_more_layers_than_there_are_is_an_error_with_the_number(tiny_encoder: Path):
    for adaptation in (LastLayers(layers=9), Lora(layers=9), Adapter(layers=9)):
        with pytest.raises(UserError, match="layers is 9, but the encoder has 2 layers"):
            adaptation.apply(load_encoder(tiny_encoder))


def test_lora_targets_that_match_nothing_are_an_error_with_the_names(tiny_encoder: Path):
    with pytest.raises(UserError, match=r"\['attn'\] match no linear map; names end in .*'query'"):
        Lora(targets=("attn",)).apply(load_encoder(tiny_encoder))


def test_lora_leaves_out_the_pooler_that_nothing_reads(tiny_encoder: Path):
    encoder = load_encoder(tiny_encoder)
    assert encoder.backbone.pooler is not None
    Lora(targets=("dense",)).apply(encoder)
    assert trainable(encoder)
    assert not [name for name in trainable(encoder) if "pooler" in name]


def test_lora_without_targets_says_so_where_peft_knows_none_with_the_names(tiny_encoder: Path):
    encoder = load_encoder(tiny_encoder)
    encoder.backbone.config.model_type = "new"
    with pytest.raises(UserError, match=r"peft has none for new; set some; names end in .*'query'"):
        Lora().apply(encoder)


def test_an_adapter_where_layers_end_otherwise_is_an_error_with_the_names(tiny_encoder: Path):
    encoder = load_encoder(tiny_encoder)
    for layer in layer_stack(encoder.backbone):
        layer.output.other = layer.output.dense
        del layer.output.dense
    with pytest.raises(UserError, match=r"no known ends .* in BertLayer; its linear maps are \[.*'output.other'\]"):
        Adapter().apply(encoder)


def test_a_prompt_that_leaves_too_few_positions_is_an_error_with_the_numbers(tmp_path: Path, tiny_encoder: Path):
    """The small BERT reads 64 tokens."""
    from recspark.training.item_lesson import ItemLesson, ItemSettings
    from tests.training.world import write_factors

    factors = str(write_factors(tmp_path / "factors"))
    fits, too_long = (EncoderConfig(path=str(tiny_encoder), max_length=length) for length in (56, 57))
    settings = ItemSettings(adaptation=Prompt(tokens=8))
    ItemLesson(settings, fits, factors).make_model()
    with pytest.raises(UserError, match=r"max_length is 57 and the prompt has 8 tokens, but .* reads at most 64"):
        ItemLesson(settings, too_long, factors).make_model()


def test_a_prompt_where_a_virtual_token_would_be_all_that_is_read_is_an_error(tiny_encoder: Path):
    with pytest.raises(UserError, match="pooling cls would read a virtual token"):
        Prompt().apply(load_encoder(tiny_encoder, "cls"))


def test_an_encoder_without_bias_terms_has_nothing_for_bitfit():
    with pytest.raises(UserError, match="LlamaModel has no bias terms"):
        BitFit().apply(tiny_llama())
