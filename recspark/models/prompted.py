"""Prompt tokens in a model's folder: which they are, and a tokenizer that puts them before every text."""

import json
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, processors

from recspark.errors import UserError

FILE = "recspark.json"


def prompt_of(folder: Path) -> tuple[int, ...]:
    """Ids of the tokens that go before every text; none in a folder that says nothing."""
    if not (folder / FILE).is_file():
        return ()
    return tuple(json.loads((folder / FILE).read_text()).get("prompt_ids", ()))


def with_prompt(tokenizer: Any, prompt_ids: tuple[int, ...]) -> Any:
    """A tokenizer that has these ids for tokens and puts them before every text and its own special tokens."""
    from transformers import PreTrainedTokenizerFast

    first = len(tokenizer)  # where the embedding matrix is longer than the vocabulary, tokens fill the gap
    lacking = [AddedToken(f"<prompt_{i}>", special=True, normalized=False) for i in range(first, max(prompt_ids) + 1)]
    backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    backend.add_special_tokens(lacking)
    tokens = {token: i for i in prompt_ids if (token := backend.id_to_token(i)) is not None}
    if len(tokens) < len(prompt_ids):
        raise UserError(f"finetune.adaptation prompt: the tokenizer has holes below its {first} tokens; use lora")
    # The plain class: others build their post-processor anew when they are loaded.
    return PreTrainedTokenizerFast(
        tokenizer_object=put_before(backend, tokens),
        model_input_names=tokenizer.model_input_names,
        model_max_length=tokenizer.model_max_length,
        **tokenizer.special_tokens_map,
    )


def put_before(backend: Tokenizer, tokens: dict[str, int]) -> Tokenizer:
    """By the template that is there, as a second one cannot follow it; else by one of its own after the other post-processors."""
    said = json.loads(backend.to_str())
    if not templates(said):
        own, plain = backend.post_processor, processors.TemplateProcessing(single="$A", pair="$A $B:1")
        backend.post_processor = processors.Sequence([own, plain]) if own else plain
        said = json.loads(backend.to_str())
    for template in templates(said):
        pieces = [{"SpecialToken": {"id": token, "type_id": 0}} for token in tokens]
        template["single"], template["pair"] = pieces + template["single"], pieces + template["pair"]
        template["special_tokens"] |= {t: {"id": t, "ids": [i], "tokens": [t]} for t, i in tokens.items()}
    return Tokenizer.from_str(json.dumps(said))


def without_prompt(tokenizer: Any, prompt_ids: tuple[int, ...]) -> Any:
    """The tokenizer of `with_prompt`, its prompt no longer put before texts; the tokens stay."""
    said = json.loads(tokenizer.backend_tokenizer.to_str())
    tokens = set(tokenizer.convert_ids_to_tokens(list(prompt_ids)))
    for template in templates(said):
        for kind in ("single", "pair"):
            template[kind] = [p for p in template[kind] if p.get("SpecialToken", {}).get("id") not in tokens]
    tokenizer._tokenizer = Tokenizer.from_str(json.dumps(said))
    return tokenizer


def templates(said: dict[str, Any]) -> list[dict[str, Any]]:
    """The templates among a tokenizer's post-processors."""
    processor = said["post_processor"] or {"type": ""}
    every = processor["processors"] if processor["type"] == "Sequence" else [processor]
    return [one for one in every if one["type"] == "TemplateProcessing"]
