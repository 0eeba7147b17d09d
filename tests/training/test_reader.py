from pathlib import Path

import numpy as np
import pytest

from recspark.errors import UserError
from recspark.models.encoder import EncoderConfig
from recspark.training.item_lesson import ItemLesson
from recspark.training.reader import READERS, Shard, read_petastorm
from tests.training.world import BATCH, ITEMS, SETTINGS, VALID, write_examples

COLUMNS = ItemLesson(SETTINGS, EncoderConfig(), "").columns


def collect(folder: Path, kind: str, part: str = "train") -> list:
    shard = Shard(str(folder), kind, COLUMNS)
    return list(shard.in_order(part, np.arange(shard.steps(part))))


def test_both_readers_give_the_same_batches(tmp_path: Path):
    folder = write_examples(tmp_path / "examples", 2) / "shard=1"
    one, other = collect(folder, "petastorm"), collect(folder, "arrow")
    assert len(one) == len(other) == 3
    for a, b in zip(one, other, strict=True):
        assert (a.key, a.size) == (b.key, b.size)
        for name in COLUMNS.numbers:
            np.testing.assert_array_equal(a.numbers[name], b.numbers[name])
        for name in COLUMNS.arrays:
            assert len(a.arrays[name]) == len(a)
            assert all(np.array_equal(x, y) for x, y in zip(a.arrays[name], b.arrays[name], strict=True))


@pytest.mark.parametrize("kind", READERS)
def test_the_shards_of_a_step_together_are_the_step(tmp_path: Path, kind: str):
    write_examples(tmp_path / "two", 2)
    shares = [collect(tmp_path / "two" / f"shard={r}", kind) for r in range(2)]
    for step in range(3):
        size = min(BATCH, ITEMS - VALID - step * BATCH)
        assert [s[step].size for s in shares] == [size, size]
        assert sum(len(s[step]) for s in shares) == size


@pytest.mark.parametrize("name", ["_common_metadata", "_metadata"])
def test_a_folder_with_a_file_that_petastorm_would_unpickle_is_refused(tmp_path, name):
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(UserError, match=f"has a file {name}, which recspark does not write"):
        next(read_petastorm(str(tmp_path), ["part"]))
