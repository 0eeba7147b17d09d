from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import BertConfig, BertModel, GPT2Config, GPT2Model, T5Config, T5EncoderModel

from recspark.models.adaptation import Adapter, BitFit, Frozen, Full, LastLayers, Lora, Prompt
from recspark.models.encoder import TextEncoder, load_encoder
from recspark.training import checkpoint, item_lesson, loop
from recspark.training.launcher import LocalRanks
from recspark.training.learner import set_dropout
from recspark.training.prefix import KeptStates, Prefix, frozen_depth, keep_prefix
from recspark.training.status import Reporter
from tests.training.world import SETTINGS, make_job

TEXT = torch.tensor([[2, 10, 11, 12, 3], [2, 30, 31, 3, 0]])
MASK = (TEXT != 0).long()


def no_dropout(encoder: TextEncoder) -> TextEncoder:
    set_dropout(encoder, 0.0)
    return encoder


def frozen(encoder: TextEncoder) -> TextEncoder:
    Frozen().apply(encoder)
    return encoder


@pytest.mark.parametrize(
    ("adaptation", "depth"),
    [
        (LastLayers(layers=1), 1),
        (LastLayers(layers=2), 0),
        (Frozen(), 1),
        (Full(), 0),
        (BitFit(), 0),
        (Lora(layers=1), 1),
        (Lora(), 0),
        (Adapter(layers=1), 1),
        (Adapter(placement="pfeiffer"), 0),
        (Prompt(), 0),
    ],
)
def test_depth_is_what_lies_below_all_that_learns(tiny_encoder: Path, adaptation: Any, depth: int):
    encoder = load_encoder(tiny_encoder)
    adaptation.apply(encoder)
    assert frozen_depth(encoder) == depth


@pytest.mark.parametrize(
    "backbone",
    [
        BertModel(
            BertConfig(vocab_size=50, hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=32)
        ),
        GPT2Model(GPT2Config(vocab_size=50, n_positions=32, n_embd=16, n_layer=3, n_head=2)),
    ],
    ids=["bert", "gpt2"],
)
def test_an_encoder_gives_the_same_vectors_from_the_kept_states(backbone: torch.nn.Module):
    encoder = TextEncoder(backbone).eval()
    assert keep_prefix(frozen(no_dropout(encoder)), 2**20, lambda: (TEXT, MASK)) is not None
    plain, prefix = encoder(TEXT, MASK), Prefix(encoder, 2)
    states = prefix.states(TEXT, MASK)
    assert states.shape == (2, 5, 16)
    with prefix.given(states):
        torch.testing.assert_close(encoder(TEXT, MASK), plain, atol=0, rtol=0)
    torch.testing.assert_close(encoder(TEXT, MASK), plain, atol=0, rtol=0)


def test_the_layers_below_are_not_run(tiny_encoder: Path):
    encoder = load_encoder(tiny_encoder)
    prefix, states = Prefix(encoder, 1), torch.randn(2, 5, 16)
    with prefix.given(states):
        first = encoder(TEXT, MASK)
        torch.nn.init.zeros_(next(prefix.lower[0].parameters()))
        torch.testing.assert_close(encoder(TEXT, MASK), first)


def test_the_embeddings_are_not_run_where_they_alone_make_the_lowest_states(tiny_encoder: Path):
    encoder = load_encoder(tiny_encoder)
    prefix = Prefix(encoder, 1)
    states = prefix.states(TEXT, MASK)
    assert prefix.embeddings is encoder.backbone.embeddings
    plain = encoder(TEXT, MASK)
    torch.nn.init.zeros_(encoder.backbone.embeddings.LayerNorm.weight)
    with prefix.given(states):
        torch.testing.assert_close(encoder(TEXT, MASK), plain, atol=0, rtol=0)


def test_layers_that_hand_on_more_than_their_states_are_run_whole():
    """T5 computes the bias of positions in its first layer and hands it up."""
    encoder = TextEncoder(
        T5EncoderModel(T5Config(vocab_size=50, d_model=16, d_kv=8, d_ff=32, num_layers=3, num_heads=2))
    ).eval()
    assert keep_prefix(frozen(no_dropout(encoder)), 2**20, lambda: (TEXT, MASK)) is None


def test_dropout_or_no_room_keeps_nothing(tiny_encoder: Path):
    encoder = frozen(no_dropout(load_encoder(tiny_encoder)))
    assert keep_prefix(encoder, 2**20, lambda: (TEXT, MASK)) is not None
    assert keep_prefix(encoder, 0, lambda: (TEXT, MASK)) is None
    for module in encoder.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.1
    assert keep_prefix(encoder, 2**20, lambda: (TEXT, MASK)) is None


STATES = 2 * 5 * 16 * 4  # bytes of the two texts


def vectors_under(kept: KeptStates, *steps: str) -> None:
    """Each step, checked against the plain way."""
    for step in steps:
        with kept.under(step, TEXT, MASK):
            found = kept.prefix.encoder(TEXT, MASK)
        torch.testing.assert_close(found, kept.prefix.encoder(TEXT, MASK), atol=0, rtol=0)


def test_dropout_is_set_in_modules_and_in_numbers_that_functions_are_called_with():
    model = torch.nn.Sequential(torch.nn.Dropout(0.1), torch.nn.MultiheadAttention(4, 2, dropout=0.1))
    set_dropout(model, 0.0)
    assert (model[0].p, model[1].dropout) == (0.0, 0.0)


def test_what_does_not_fit_is_computed_anew(tiny_encoder: Path):
    kept = KeptStates(Prefix(frozen(load_encoder(tiny_encoder)), 1), limit=STATES)
    vectors_under(kept, "a", "b", "a", "b")
    assert list(kept.kept.places) == ["a"]


def test_what_the_first_layers_frozen_maps_make_of_the_states_is_kept_from_the_second_epoch_on(tiny_encoder: Path):
    """Query, key and value: three times the states' size."""
    kept = KeptStates(Prefix(frozen(load_encoder(tiny_encoder)), 1), limit=2 * STATES + 3 * STATES)
    vectors_under(kept, "a", "b")
    assert list(kept.kept.places) == ["a", "b"]
    vectors_under(kept, "a", "b", "a", "b")
    assert list(kept.kept.places) == ["a", "b", ("a", "first")]
    attention = kept.prefix.above.attention.self
    plain = kept.prefix.encoder(TEXT, MASK)
    for module in (attention.query, attention.key, attention.value):
        torch.nn.init.zeros_(module.weight)
    with kept.under("a", TEXT, MASK):
        torch.testing.assert_close(kept.prefix.encoder(TEXT, MASK), plain, atol=0, rtol=0)


def test_a_disk_that_is_full_keeps_nothing_and_stops_nothing(tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    kept = KeptStates(Prefix(frozen(load_encoder(tiny_encoder)), 1), limit=2**20)
    monkeypatch.setattr(kept.kept, "file", SimpleNamespace(seek=int, write=full))
    vectors_under(kept, "a", "a")
    assert not kept.kept.places


@pytest.mark.parametrize(
    "adaptation",
    [LastLayers(layers=1, learning_rate=1e-2), Lora(layers=1), Adapter(layers=1, size=4)],
    ids=lambda a: a.kind,
)
def test_a_training_learns_the_same_with_and_without(
    tmp_path: Path, tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch, adaptation: Any
):
    made: list[KeptStates | None] = []
    monkeypatch.setattr(item_lesson, "keep_prefix", lambda *a: made.append(keep_prefix(*a)) or made[-1])
    settings = SETTINGS.model_copy(update={"adaptation": adaptation})
    (tmp_path / "status").mkdir()
    found = {}
    for name, gib in (("with", 1.0), ("without", 0.0)):
        gibs = {"prefix_gib": gib, "forms_gib": gib}
        job = make_job(tmp_path, tiny_encoder, 1, settings.model_copy(update=gibs), name)
        loop.train_rank(job, LocalRanks(), Reporter(str(tmp_path / "status"), 0))
        found[name] = checkpoint.load_last(job.checkpoints)
    assert made[0] is not None
    steps = {(part, step) for part in ("train", "valid") for step in range(3 if part == "train" else 1)}
    maps = {(step, "first") for step in steps} if adaptation.kind != "last_layers" else set()
    assert set(made[0].kept.places) == steps | maps
    assert made[1] is None
    (tensors, facts), (plain, plain_facts) = found["with"], found["without"]
    assert [row["train_loss"] for row in facts["log"]] == [row["train_loss"] for row in plain_facts["log"]]
    for name in plain:
        torch.testing.assert_close(tensors[name], plain[name], atol=1e-6, rtol=1e-5)
