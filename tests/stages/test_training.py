"""How many parameters learn."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from recspark.models.adaptation import Adapter, Full, Lora, Prompt
from recspark.models.encoder import EncoderConfig, load_encoder
from recspark.stages.finetune import FinetuneConfig
from recspark.stages.training import count_parameters, fingerprint_of
from recspark.tables import TRAINING_EXAMPLES
from tests.training.world import SETTINGS, K, make_job

HEAD = 16 * K + K


@pytest.mark.parametrize(
    ("adaptation", "learned"),
    [
        (Adapter(size=4), HEAD + 4 * (4 * 16 + 4 + 16 * 4 + 16)),
        (Prompt(tokens=3), HEAD + 3 * 16),
        (Lora(layers=1), HEAD + 4 * 8 * (16 + 16)),
    ],
    ids=lambda value: getattr(value, "kind", ""),
)
def test_the_head_and_what_was_added_learn(tmp_path: Path, tiny_encoder: Path, adaptation: Any, learned: int):
    before = sum(p.numel() for p in load_encoder(tiny_encoder).parameters())
    assert counted(tmp_path, tiny_encoder, adaptation) == {"all": before + learned, "learned": learned}


def test_in_full_all_learn_but_the_pooler_that_nothing_reads_and_if_so_set_the_words(
    tmp_path: Path, tiny_encoder: Path
):
    backbone = load_encoder(tiny_encoder).backbone
    all_, words, pooler = (
        sum(p.numel() for p in module.parameters())
        for module in (backbone, backbone.get_input_embeddings(), backbone.pooler)
    )
    expected = {"all": all_ + HEAD, "learned": all_ + HEAD - words - pooler}
    assert counted(tmp_path, tiny_encoder, Full(embeddings=False)) == expected


def counted(tmp_path: Path, encoder: Path, adaptation: Any) -> dict[str, int]:
    job = make_job(tmp_path, encoder, 1, SETTINGS.model_copy(update={"adaptation": adaptation}))
    base = EncoderConfig(path=str(encoder), max_length=32)
    return count_parameters(replace(job.lesson, base=base).make_model())


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"stall_timeout": 1200}, True),
        ({"reader": "arrow", "launcher": "torch"}, True),
        ({"epochs": 7}, False),
        ({"head_learning_rate": 0.5}, False),
    ],
)
def test_a_checkpoint_is_gone_on_from_whatever_else_than_what_is_learned_was_changed(change: dict, same: bool):
    lake: Any = SimpleNamespace(manifest=lambda _: {"fingerprint": "rows"})
    one, other = (fingerprint_of(lake, FinetuneConfig(**c), [TRAINING_EXAMPLES], 42) for c in ({}, change))
    assert (one == other) == same
