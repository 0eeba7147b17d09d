"""What a training says before it begins."""

import logging
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from recspark.models.adaptation import Adapter, Lora, Prompt
from recspark.models.encoder import EncoderConfig
from recspark.stages import training
from recspark.training.launcher import LaunchSettings
from tests.training.world import SETTINGS, K, make_job

HEAD = 16 * K + K


@pytest.mark.parametrize(
    ("adaptation", "learning"),
    [
        (Adapter(size=4), HEAD + 4 * (4 * 16 + 4 + 16 * 4 + 16)),
        (Prompt(tokens=3), HEAD + 3 * 16),
        (Lora(layers=1), HEAD + 2 * 8 * (16 + 16)),
    ],
    ids=lambda value: getattr(value, "kind", ""),
)
def test_the_log_says_how_many_parameters_learn(
    tmp_path: Path,
    tiny_encoder: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    adaptation: Any,
    learning: int,
):
    monkeypatch.setattr(training, "launch", lambda *_: None)
    monkeypatch.setattr(logging.getLogger("recspark"), "propagate", True)  # a command run before turns it off
    lake: Any = SimpleNamespace(clear_scratch=lambda _: None, scratch=lambda name: name, log_path=lambda name: name)
    job = make_job(tmp_path, tiny_encoder, 1, SETTINGS.model_copy(update={"adaptation": adaptation}))
    job = replace(job, lesson=replace(job.lesson, base=EncoderConfig(path=str(tiny_encoder), max_length=32)))
    total = sum(p.numel() for p in job.lesson.make_model().parameters())
    launched = LaunchSettings(launcher="local", num_processes=1)
    with caplog.at_level(logging.INFO, "recspark"):
        training.train(None, lake, "finetune", job, launched, adaptation.kind)  # type: ignore[arg-type]
    assert f"{adaptation.kind}: {learning:,} of {total:,} parameters learn" in caplog.text
