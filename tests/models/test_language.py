import math
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertModel, ElectraConfig, ElectraModel, RobertaConfig, RobertaModel

from recspark.errors import UserError
from recspark.models.encoder import load_encoder
from recspark.models.language import (
    CausalLm,
    Continued,
    MaskedLm,
    NewBert,
    NewGpt2,
    base_of,
    block_losses,
    token_losses,
)
from recspark.models.vocabulary import WordPiece
from recspark.training.language_lesson import LanguageLesson
from recspark.training.launcher import LocalRanks
from recspark.training.reader import Step
from tests.tiny_encoder import make_tiny_decoder

SPECIALS, MASK, OTHERS = set(range(5)), 4, np.arange(5, 1000)
TOKENS = np.arange(5, 1000, dtype=np.int32)[:900]
WORDS = (np.arange(900) // 3).astype(np.int32)  # 300 words of three tokens


def drawn(seed: int = 0, **settings):
    return MaskedLm(**settings).example(TOKENS, WORDS, np.random.default_rng(seed), MASK, OTHERS)


def test_fifteen_words_in_a_hundred_are_chosen_whole():
    read, wanted = drawn()
    chosen = wanted >= 0
    assert chosen.sum() == 3 * 45
    assert (chosen.reshape(300, 3).all(1) | ~chosen.reshape(300, 3).any(1)).all()
    np.testing.assert_array_equal(wanted[chosen], TOKENS[chosen])
    np.testing.assert_array_equal(read[~chosen], TOKENS[~chosen])


def test_of_the_chosen_eight_in_ten_are_masked_one_is_random_one_stays():
    fates = np.zeros(3)
    for seed in range(40):
        read, wanted = drawn(seed, whole_words=False)
        chosen = wanted >= 0
        assert chosen.sum() == 135
        fates += [
            (read[chosen] == MASK).sum(),
            ((read[chosen] != MASK) & (read != TOKENS)[chosen]).sum(),
            (read == TOKENS)[chosen].sum(),
        ]
        assert not set(read[chosen & (read != MASK)]) & SPECIALS
    np.testing.assert_allclose(fates / fates.sum(), [0.8, 0.1, 0.1], atol=0.02)  # 5,400 draws: a standard error of .005


def test_special_tokens_are_never_chosen_and_one_word_always_is():
    tokens, words = np.array([2, 77, 3], np.int32), np.array([-1, 0, -1], np.int32)
    draw = np.random.default_rng(0)
    _, wanted = MaskedLm().example(tokens, words, draw, MASK, OTHERS)
    assert wanted.tolist() == [-100, 77, -100]
    _, wanted = MaskedLm().example(tokens[:1], words[:1], draw, MASK, OTHERS)
    assert wanted.tolist() == [-100]


def test_a_causal_model_must_say_the_next_token():
    read, wanted = CausalLm().example(TOKENS[:3], WORDS[:3], np.random.default_rng(0), MASK, OTHERS)
    assert read.tolist() == [5, 6, 7]
    assert wanted.tolist() == [6, 7, -100]


class Even(torch.nn.Module):
    """Finds every one of eight tokens as likely."""

    def forward(self, input_ids, attention_mask):
        return type("Output", (), {"logits": torch.zeros(*input_ids.shape, 8)})


def test_not_knowing_costs_the_logarithm_of_the_vocabulary():
    read = [np.array([1, 2, 3]), np.array([4])]
    losses = block_losses(Even(), read, [np.array([-100, 5, 6]), np.array([-100])], torch.device("cpu"))
    assert losses.tolist() == pytest.approx([math.log(8), 0.0])


def test_a_perplexity_is_of_tokens_and_not_of_blocks():
    """Of a block with nothing to find nothing is told, where its mean would be 0."""
    losses, chosen = token_losses(
        Even(), [np.array([1, 2, 3]), np.array([4])], [np.array([-100, 5, 6]), np.array([-100])], torch.device("cpu")
    )
    assert losses.tolist() == pytest.approx([math.log(8)] * 2)
    assert chosen.int().tolist() == [[0, 1, 1], [0, 0, 0]]


@pytest.fixture(scope="module")
def tokenizer():
    return WordPiece(size=60).learn(lambda: iter(["red film", "blue film"] * 5), True)


@pytest.mark.parametrize(
    "start", [NewBert(layers=1, hidden_size=8, heads=2), NewGpt2(layers=1, hidden_size=8, heads=2)]
)
def test_a_block_costs_the_same_whatever_it_is_padded_with(tokenizer, start):
    model = start.make(tokenizer, start.kind == "bert", 16, 0).eval()
    one, other = np.array([2, 7, 8, 3]), np.array([2, 9, 3, 7, 8, 9, 10, 3])
    want = [np.where(np.arange(len(r)) % 2, r, -100) for r in (one, other)]
    with torch.no_grad():
        together = block_losses(model, [one, other], want, torch.device("cpu"))
        alone = [block_losses(model, [r], [w], torch.device("cpu"))[0] for r, w in zip((one, other), want, strict=True)]
    torch.testing.assert_close(together, torch.stack(alone))


@pytest.mark.parametrize(
    "start", [NewBert(layers=1, hidden_size=8, heads=2), NewGpt2(layers=1, hidden_size=8, heads=2)]
)
def test_the_head_reads_only_the_four_tokens_that_are_wanted_with_the_same_losses_and_slopes(tokenizer, start):
    model = start.make(tokenizer, start.kind == "bert", 16, 0).eval()
    read = [np.array([2, 7, 8, 3]), np.array([2, 9, 3, 7, 8, 9, 10, 3]), np.array([2, 3])]
    want = [np.array([-100, 7, -100, -100]), np.array([-100, 9, -100, 7, 8, -100, -100, -100]), np.array([-100, -100])]
    seen, found = [], []
    model.get_output_embeddings().register_forward_hook(lambda m, args, out: seen.append(out.shape[:-1].numel()))
    for base in (None, base_of(model)):
        model.zero_grad()
        losses = block_losses(model, read, want, torch.device("cpu"), base)
        losses.sum().backward()
        found.append([losses.detach(), *(p.grad for p in model.parameters() if p.grad is not None)])
    assert seen[-2:] == [24, 4]
    assert found[0][0][2] == 0
    for plain, less in zip(*found, strict=True):
        torch.testing.assert_close(plain, less)


def test_a_head_that_looks_at_the_text_around_gets_all_of_it(tokenizer):
    class Summed(torch.nn.Module):
        """Its head reads the sum of a text's states."""

        def __init__(self):
            super().__init__()
            self.base_model = BertModel(
                BertConfig(vocab_size=60, hidden_size=8, num_hidden_layers=1, num_attention_heads=2)
            )

        def forward(self, **texts):
            states = self.base_model(**texts).last_hidden_state
            return SimpleNamespace(logits=states.sum(1, keepdim=True).expand_as(states))

    assert base_of(Summed()) is None


def test_a_new_model_is_the_same_for_the_same_seed(tokenizer):
    first, same, other = (NewBert(layers=1, hidden_size=8, heads=2).make(tokenizer, True, 16, s) for s in (1, 1, 2))
    weights = [m.get_input_embeddings().weight for m in (first, same, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_a_block_longer_than_the_model_reads_is_an_error(tokenizer, tiny_encoder: Path):
    with pytest.raises(UserError, match=r"block_length is 128, but .* reads at most 64 tokens"):
        Continued(path=str(tiny_encoder)).make(tokenizer, True, 128, 0)


@pytest.mark.parametrize(
    ("model", "config"), [(BertModel, BertConfig), (RobertaModel, RobertaConfig), (ElectraModel, ElectraConfig)]
)
def test_an_encoder_does_not_go_on_as_a_causal_model(tokenizer, tmp_path: Path, model, config):
    """Whatever it is called: RoBERTa for causal language modelling reads both ways unless it is a decoder."""
    sizes = {
        "vocab_size": 60,
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 8,
    }
    model(config(**sizes)).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="reads both ways; its objective is masked_lm"):
        Continued(path=str(tmp_path)).make(tokenizer, False, 16, 0)


def test_a_decoder_goes_on_as_a_causal_model(tokenizer, tmp_path: Path):
    model = Continued(path=str(make_tiny_decoder(tmp_path))).make(tokenizer, False, 16, 0)
    assert model.config.model_type == "gpt2"


def test_a_tokenizer_longer_than_the_embedding_is_an_error(tokenizer, tmp_path: Path):
    BertModel(BertConfig(vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=1)).save_pretrained(
        tmp_path
    )
    with pytest.raises(UserError, match=rf"its tokenizer has {len(tokenizer)} tokens, the model 9"):
        Continued(path=str(tmp_path)).make(tokenizer, True, 16, 0)


def test_weights_that_are_not_there_are_not_made_up(tokenizer, tiny_encoder: Path, tmp_path: Path):
    shutil.copytree(tiny_encoder, tmp_path, dirs_exist_ok=True)
    tensors = load_file(tmp_path / "model.safetensors")
    save_file({f"wrapped.{name}": t for name, t in tensors.items()}, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=r"lacks \d+ weights of its kind, such as .*; they would be random"):
        load_encoder(tmp_path)
    with pytest.raises(UserError, match=r"pretrain.start .* lacks \d+ weights of its kind"):
        Continued(path=str(tmp_path)).make(tokenizer, True, 16, 0)


@pytest.mark.parametrize("objective", [MaskedLm(), CausalLm()])
def test_a_block_costs_the_same_on_whichever_rank_it_is(tokenizer, tmp_path: Path, objective):
    """Masks are drawn by the block, not by its place."""
    tokenizer.save_pretrained(tmp_path)
    start = (NewBert if objective.both_ways else NewGpt2)(layers=1, hidden_size=8, heads=2, positions=16)
    lesson = LanguageLesson(start, objective, str(tmp_path), 8, 0.0, 1e-3, 5)
    model = lesson.make_model()
    losses = lesson.losses(model, None, torch.device("cpu"), LocalRanks())  # type: ignore[arg-type]
    tokens = [
        np.array([2, 7, 8, 9, 3], np.int32),
        np.array([2, 9, 8, 3], np.int32),
        np.array([2, 7, 7, 7, 3], np.int32),
    ]
    words = [np.array([-1, *range(len(t) - 2), -1], np.int32) for t in tokens]

    def step(rows: list[int]) -> Step:
        arrays = {"tokens": [tokens[r] for r in rows], "words": [words[r] for r in rows]}
        return Step({"block": np.array([10 + r for r in rows])}, arrays, 3, ("train", 0))

    with torch.no_grad():
        whole = losses(model, step([0, 1, 2]), 2)
        shares = torch.cat([losses(model, step([0, 2]), 2), losses(model, step([1]), 2)])
    torch.testing.assert_close(shares, whole[[0, 2, 1]])


def test_heads_must_share_the_hidden_size():
    with pytest.raises(ValueError, match="hidden_size 10 should be a multiple of heads 4"):
        NewBert(hidden_size=10)
