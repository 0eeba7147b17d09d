"""Two tokens, two dimensions, one place of padding: every vector can be read off."""

import json
from pathlib import Path

import pytest
import torch

from recspark.errors import UserError
from recspark.models.pooling import Pooling, pool, pooling_config, pooling_of

A, B, PADDING = [1.0, 4.0], [3.0, 2.0], [9.0, 9.0]
EXPECTED = {"mean": [2.0, 3.0], "cls": A, "max": [3.0, 4.0], "last_token": B}


@pytest.mark.parametrize(("kind", "expected"), EXPECTED.items())
@pytest.mark.parametrize(("states", "mask"), [([A, B, PADDING], [1, 1, 0]), ([PADDING, A, B], [0, 1, 1])])
def test_padding_counts_on_neither_side(kind: Pooling, expected: list[float], states: list, mask: list[int]) -> None:
    assert pool(kind, torch.tensor([states]), torch.tensor([mask]))[0].tolist() == expected


@pytest.mark.parametrize("kind", EXPECTED)
def test_a_folder_says_what_was_written_into_it(tmp_path: Path, kind: Pooling) -> None:
    folder_that_says(tmp_path, pooling_config(kind, 2))
    assert pooling_of(tmp_path) == kind


def test_the_newer_name_of_a_pooling_is_read_too(tmp_path: Path) -> None:
    folder_that_says(tmp_path, {"pooling_mode": "lasttoken"})
    assert pooling_of(tmp_path) == "last_token"


def test_a_folder_that_says_nothing_pools_by_the_mean(tmp_path: Path) -> None:
    assert pooling_of(tmp_path) == "mean"


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ({"pooling_mode_weightedmean_tokens": True}, "pooling_mode_weightedmean_tokens"),
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}, "'mean', 'cls'"),
        ({}, "nothing"),
    ],
)
def test_a_pooling_that_is_not_here_is_an_error_with_the_ones_that_are(tmp_path: Path, said: dict, shown: str) -> None:
    folder_that_says(tmp_path, said)
    with pytest.raises(UserError, match=f"{shown}.*not one of mean, cls, max, last_token; set encoder.pooling"):
        pooling_of(tmp_path)


def test_a_broken_file_is_an_error_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling/config.json").write_text("{")
    with pytest.raises(UserError, match=r"1_Pooling/config.json is not JSON .*; set encoder.pooling"):
        pooling_of(tmp_path)


def folder_that_says(folder: Path, said: dict) -> None:
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling/config.json").write_text(json.dumps(said))
