from pathlib import Path

import numpy as np
import pytest
import torch

from recspark.training.reader import READERS, Shard
from tests.training.world import BATCH, ITEMS, VALID, K, example, write_examples


def collect(folder: Path, kind: str, part: str = "train") -> list:
    shard = Shard(str(folder), kind, K)
    return list(shard.batches(part, np.arange(shard.steps(part))))


def test_both_readers_give_the_same_batches(tmp_path: Path):
    folder = write_examples(tmp_path / "examples", 2) / "shard=1"
    one, other = collect(folder, "petastorm"), collect(folder, "arrow")
    assert len(one) == len(other) == 3
    for a, b in zip(one, other, strict=True):
        assert torch.equal(a.token_ids, b.token_ids)
        assert torch.equal(a.mask, b.mask)
        assert all(torch.equal(x, y) for x, y in zip(vars(a.targets).values(), vars(b.targets).values(), strict=True))


@pytest.mark.parametrize("kind", READERS)
def test_the_shards_of_a_step_together_are_the_step(tmp_path: Path, kind: str):
    write_examples(tmp_path / "two", 2)
    shares = [collect(tmp_path / "two" / f"shard={r}", kind) for r in range(2)]
    for step in range(3):
        size = min(BATCH, ITEMS - VALID - step * BATCH)
        assert [s[step].size for s in shares] == [size, size]
        assert sum(len(s[step].token_ids) for s in shares) == size


def test_a_batch_is_padded_and_keeps_what_the_table_says(tmp_path: Path):
    folder = write_examples(tmp_path / "one", 1) / "shard=0"
    batch = collect(folder, "arrow")[1]
    item = VALID + BATCH + 2  # third slot of the second step
    row = example(item, 1)
    tokens = np.frombuffer(row["tokens"], np.int32)
    assert batch.token_ids[2, : len(tokens)].tolist() == tokens.tolist()
    assert not batch.token_ids[2, len(tokens) :].any()
    assert batch.mask[2].sum() == len(tokens)
    root = np.frombuffer(row["user_root"], np.float32).reshape(-1, K)
    np.testing.assert_array_equal(batch.targets.user_root_BMK[2, : len(root)], root)
    assert not batch.targets.user_root_BMK[2, len(root) :].any()
