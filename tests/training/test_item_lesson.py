from pathlib import Path

import numpy as np
import torch

from recspark.models.encoder import EncoderConfig, pad
from recspark.training.item_lesson import ItemLesson, targets_of
from recspark.training.reader import Shard
from tests.training.world import BATCH, SETTINGS, VALID, K, example, write_examples


def test_what_the_loss_gets_is_padded_and_as_the_table_says(tmp_path: Path):
    folder = write_examples(tmp_path / "one", 1) / "shard=0"
    step = Shard(str(folder), "arrow", ItemLesson(SETTINGS, EncoderConfig(), "").columns).step("train", 1)
    row = example(VALID + BATCH + 2, 1)  # third slot of the second step

    tokens, (token_ids, mask) = np.frombuffer(row["tokens"], np.int32), pad(step.arrays["tokens"])
    assert token_ids[2, : len(tokens)].tolist() == tokens.tolist()
    assert mask[2].sum() == len(tokens)

    targets, root = targets_of(step, K, torch.device("cpu")), np.frombuffer(row["user_root"], np.float32).reshape(-1, K)
    np.testing.assert_array_equal(targets.user_root_BMK[2, : len(root)], root)
    assert not targets.user_root_BMK[2, len(root) :].any()
    assert targets.positives_B[2] == row["positives"]
    assert targets.penalty_B[2] == row["penalty"]
    np.testing.assert_allclose(targets.unobserved_B[2], row["unobserved"], rtol=1e-6)
    np.testing.assert_allclose(targets.weight_B[2], row["weight"], rtol=1e-6)
