from pathlib import Path

import torch

from recspark.training import checkpoint


def test_the_newest_checkpoint_comes_back_and_two_are_kept(tmp_path: Path):
    for epoch in (1, 2, 10):
        checkpoint.save(
            str(tmp_path), epoch, {"a.b": torch.full((2, 2), float(epoch))}, {"epoch": epoch, "log": [{"loss": 0.5}]}
        )
    tensors, facts = checkpoint.load_last(str(tmp_path))
    assert facts == {"epoch": 10, "log": [{"loss": 0.5}]}
    assert torch.equal(tensors["a.b"], torch.full((2, 2), 10.0))
    assert checkpoint.names(str(tmp_path)) == ["epoch-00002.safetensors", "epoch-00010.safetensors"]


def test_a_half_written_file_is_no_checkpoint(tmp_path: Path):
    (tmp_path / "1234.partial").write_bytes(b"half")
    assert checkpoint.load_last(str(tmp_path)) is None


def test_no_folder_is_no_checkpoint(tmp_path: Path):
    assert checkpoint.load_last(str(tmp_path / "none")) is None
