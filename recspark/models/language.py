"""Language models and what they learn from text: a loss a block.

Each start and each objective is its settings. To add one: write the class here and add its name to the union.
Shapes: B blocks, L tokens, V the vocabulary's size.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor, nn

from recspark.config import Settings
from recspark.errors import UserError
from recspark.models.encoder import longest_text
from recspark.models.model_folder import load_weights, model_folder

Ints = NDArray[np.int32]


class Continued(Settings):
    """A model that is there learns on."""

    kind: Literal["continued"] = "continued"
    path: str = Field(description="a transformers model directory, a URI of one, or a hub name")

    def make(self, tokenizer: Any, both_ways: bool, block_length: int, seed: int) -> Any:
        """The model with a language head: its own, or, where its folder has none, a new one.

        Raises UserError if its kind has no such head, or cannot read so long a block.
        """
        from transformers import AutoModelForCausalLM, AutoModelForMaskedLM

        auto: Any = AutoModelForMaskedLM if both_ways else AutoModelForCausalLM
        folder = model_folder(self.path, "pretrain.start.path")
        torch.manual_seed(seed)
        model, missing = load_weights(auto, self.path, folder, False, "pretrain.start.path")
        lacking = [name for name in missing if name.startswith(f"{model.base_model_prefix}.")]
        if lacking := [name for name in lacking if ".pooler." not in name]:
            raise UserError(
                f"pretrain.start {self.path} lacks {len(lacking)} weights of its kind, such as {lacking[0]}"
            )
        if (limit := longest_text(folder)) and block_length > limit:
            raise UserError(f"pretrain.block_length is {block_length}, but {self.path} reads at most {limit} tokens")
        if len(tokenizer) > (known := model.get_input_embeddings().num_embeddings):
            raise UserError(f"pretrain.start {self.path}: its tokenizer has {len(tokenizer)} tokens, the model {known}")
        if not both_ways and looks_ahead(model):
            raise UserError(f"pretrain.start {self.path} reads both ways; its objective is masked_lm")
        return model


def looks_ahead(model: nn.Module) -> bool:
    """Whether what comes later in a text changes what the model says before it."""
    texts = torch.tensor([[5, 6, 7], [5, 6, 8]])
    with torch.no_grad():
        first, other = model.eval()(input_ids=texts, attention_mask=torch.ones_like(texts)).logits[:, 0]
    model.train()
    return not torch.allclose(first, other, atol=1e-4)


class NewModel(Settings):
    """A transformer with random weights."""

    layers: int = Field(4, ge=1, description="of the transformer")
    hidden_size: int = Field(256, ge=8, description="a multiple of heads")
    heads: int = Field(4, ge=1, description="of attention, in each layer")
    positions: int = Field(512, ge=8, description="the longest text that it can read, in tokens")

    @model_validator(mode="after")
    def _heads_share(self) -> "NewModel":
        if self.hidden_size % self.heads:
            raise ValueError(f"hidden_size {self.hidden_size} should be a multiple of heads {self.heads}")
        return self


class NewBert(NewModel):
    """An encoder, which reads both ways (Devlin et al. 2019)."""

    kind: Literal["bert"] = "bert"

    def make(self, tokenizer: Any, both_ways: bool, block_length: int, seed: int) -> Any:
        """The model with its head, its weights drawn by the seed."""
        from transformers import BertConfig, BertForMaskedLM

        torch.manual_seed(seed)
        config = BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=self.hidden_size,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            intermediate_size=4 * self.hidden_size,
            max_position_embeddings=self.positions,
            pad_token_id=tokenizer.pad_token_id,
        )
        return BertForMaskedLM(config)


class NewGpt2(NewModel):
    """A decoder, which reads from left to right (Radford et al. 2019)."""

    kind: Literal["gpt2"] = "gpt2"

    def make(self, tokenizer: Any, both_ways: bool, block_length: int, seed: int) -> Any:
        """The model with its head, its weights drawn by the seed."""
        from transformers import GPT2Config, GPT2LMHeadModel

        torch.manual_seed(seed)
        config = GPT2Config(
            vocab_size=len(tokenizer),
            n_embd=self.hidden_size,
            n_layer=self.layers,
            n_head=self.heads,
            n_positions=self.positions,
            bos_token_id=tokenizer.eos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
        return GPT2LMHeadModel(config)


Start = Annotated[Continued | NewBert | NewGpt2, Field(discriminator="kind")]


class MaskedLm(Settings):
    """Words are hidden and guessed from both sides, other ones each time a block is read (Devlin et al. 2019, Liu et al. 2019).

    Of the chosen tokens 80 % become the mask, 10 % a random token, 10 % stay. A whole word is chosen or none of it.
    """

    kind: Literal["masked_lm"] = "masked_lm"
    both_ways: ClassVar[bool] = True
    probability: float = Field(0.15, gt=0, lt=1, description="share of a block's words that are chosen")
    whole_words: bool = Field(True, description="else single tokens are chosen")

    def example(
        self, tokens: Ints, words: Ints, draw: np.random.Generator, mask: int, others: Ints
    ) -> tuple[Ints, Ints]:
        """(L,) what the model reads, and (L,) what it must say: -100 where nothing was chosen.

        words: see data.corpus.pack. At least one word is chosen, where the block has any. others: ids that may be put in.
        """
        units = words if self.whole_words else np.where(words < 0, -1, np.arange(len(words)))
        there = np.unique(units[units >= 0])
        count = min(len(there), max(1, round(self.probability * len(there))))
        chosen = np.isin(units, draw.choice(there, count, replace=False)) if count else np.zeros(len(words), bool)
        fate = draw.random(len(tokens))
        read = np.where(chosen & (fate < 0.8), mask, tokens)
        read = np.where(chosen & (fate >= 0.8) & (fate < 0.9), draw.choice(others, len(tokens)), read)
        return read.astype(np.int32), np.where(chosen, tokens, -100).astype(np.int32)


class CausalLm(Settings):
    """Each token is guessed from those before it."""

    kind: Literal["causal_lm"] = "causal_lm"
    both_ways: ClassVar[bool] = False

    def example(
        self, tokens: Ints, words: Ints, draw: np.random.Generator, mask: int, others: Ints
    ) -> tuple[Ints, Ints]:
        """(L,) the tokens, and (L,) the token that comes after each."""
        return tokens, np.append(tokens[1:], -100).astype(np.int32)


LanguageObjective = Annotated[MaskedLm | CausalLm, Field(discriminator="kind")]


def block_losses(
    model: nn.Module, read: Sequence[Ints], wanted: Sequence[Ints], device: torch.device, base: nn.Module | None = None
) -> Tensor:
    """(B,) mean cross-entropy, in nats, over the tokens of each block that something is wanted of; 0 where nothing is."""
    losses_N, chosen_BL = token_losses(model, read, wanted, device, base)
    losses_BL = torch.zeros(chosen_BL.shape, device=device).masked_scatter(chosen_BL, losses_N)
    return losses_BL.sum(1) / chosen_BL.sum(1).clamp(min=1)


def token_losses(
    model: nn.Module, read: Sequence[Ints], wanted: Sequence[Ints], device: torch.device, base: nn.Module | None = None
) -> tuple[Tensor, Tensor]:
    """(N,) cross-entropy, in nats, of each token that something is wanted of, and (B, L) which these are.

    base: where the model's head reads what this part of it gives, token by token, as `base_of` has it. The head then reads only
    the tokens that something is wanted of: under masked_lm one in seven.
    """
    length = max(len(r) for r in read)
    ids, mask, labels = (torch.full((len(read), length), fill, dtype=torch.long) for fill in (0, 0, -100))
    for row, (given, target) in enumerate(zip(read, wanted, strict=True)):
        ids[row, : len(given)] = torch.from_numpy(given.astype(np.int64))
        mask[row, : len(given)] = 1
        labels[row, : len(given)] = torch.from_numpy(target.astype(np.int64))
    labels = labels.to(device)
    chosen_BL = labels >= 0
    with nullcontext() if base is None else only_at(base, chosen_BL):
        logits = model(input_ids=ids.to(device), attention_mask=mask.to(device)).logits.float()
    logits_NV = logits[chosen_BL] if base is None else logits[0]
    return nn.functional.cross_entropy(logits_NV, labels[chosen_BL], reduction="none"), chosen_BL


@contextmanager
def only_at(base: nn.Module, chosen_BL: Tensor) -> Iterator[None]:
    """Within it, what the base hands on to the head are the states of the chosen tokens alone, as one text of N tokens."""

    def choose(module: nn.Module, args: tuple, output: Any) -> Any:
        output["last_hidden_state"] = output["last_hidden_state"][chosen_BL].unsqueeze(0)
        return output

    hook = base.register_forward_hook(choose)
    try:
        yield
    finally:
        hook.remove()


@torch.no_grad()
def base_of(model: Any) -> nn.Module | None:
    """What lies under the model's head, if the head reads each token's state by itself; else None."""
    device, base = next(model.parameters()).device, model.base_model
    ids = torch.tensor([[5, 6, 7], [7, 5, 6]], device=device)
    chosen = torch.tensor([[False, True, False], [True, False, True]], device=device)
    training = model.training
    model.eval()
    try:
        plain = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[chosen]
        with only_at(base, chosen):
            found = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0]
    except (RuntimeError, TypeError, ValueError, LookupError, AttributeError):
        return None
    finally:
        model.train(training)
    return base if found.shape == plain.shape and torch.allclose(found, plain, atol=1e-4) else None
