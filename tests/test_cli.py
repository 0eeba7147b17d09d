"""What the command line makes of its words; whole commands are run by test_nightly and bad_input/test_command."""

import datetime
from typing import Any

import pytest
from typer.testing import CliRunner

from recspark import __version__, runner, show
from recspark.cli import app, chosen
from recspark.errors import UserError
from recspark.pipeline import NIGHT


def test_stages_are_chosen_in_order_both_ends_included():
    assert chosen(None, None) == list(NIGHT)
    assert chosen("embed", "evaluate") == [
        "embed",
        "sequence",
        "combine",
        "ratings",
        "index",
        "candidates",
        "rerank",
        "evaluate",
    ]
    assert chosen("publish", None) == ["publish"]
    assert chosen(None, "preprocess") == ["pretrain", "preprocess"]


def test_search_runs_only_where_an_end_of_the_range_names_it():
    assert chosen("search", None) == ["search"]
    assert chosen(None, "search") == [*NIGHT, "search"]
    assert chosen("publish", "search") == ["publish", "search"]
    assert chosen("publish", "tune") == ["publish", "tune"]
    assert "search" not in chosen("preprocess", None)


def test_a_stage_that_is_none_or_an_empty_range_is_refused():
    with pytest.raises(UserError, match="--from train: no such stage; stages are pretrain, preprocess,"):
        chosen("train", None)
    with pytest.raises(UserError, match="--from embed comes after --to factorize; the order is pretrain,"):
        chosen("embed", "factorize")


def test_run_hands_on_what_it_was_told(monkeypatch):
    asked: list[Any] = []
    monkeypatch.setattr(runner, "run", lambda request, stages: asked.append((request, stages)))
    words = [
        "run",
        "--config",
        "a.yaml",
        "--run-date",
        "2026-01-02",
        "--from",
        "publish",
        "--set",
        "a=1",
        "--set",
        "b=2",
    ]
    assert CliRunner().invoke(app, [*words, "--quiet"]).exit_code == 0
    assert asked == [(runner.Request("a.yaml", datetime.date(2026, 1, 2), ("a=1", "b=2"), -1), ["publish"])]


def test_show_hands_on_what_it_was_told(monkeypatch):
    asked: list[Any] = []
    monkeypatch.setattr(show, "user", lambda *a: asked.append(a))
    monkeypatch.setattr(show, "item", lambda *a: asked.append(a))
    assert CliRunner().invoke(app, ["show", "user", "7", "--config", "a.yaml", "--top", "3"]).exit_code == 0
    words = ["show", "item", "x", "--config", "a.yaml", "--run-date", "2026-01-02", "--set", "a=1"]
    assert CliRunner().invoke(app, words).exit_code == 0
    assert asked == [("a.yaml", None, [], "7", 3), ("a.yaml", datetime.date(2026, 1, 2), ["a=1"], "x", 10)]


@pytest.mark.parametrize(
    ("words", "code"),
    [(["run"], 2), (["run", "--config", "a.yaml", "--run-date", "yesterday"], 2), (["nonsense"], 2), (["version"], 0)],
)
def test_exit_code(words: list[str], code: int):
    done = CliRunner().invoke(app, words)
    assert done.exit_code == code
    assert code or done.stdout.strip() == __version__
