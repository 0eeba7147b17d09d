"""Four items, three examples: which are candidates for whom, and how likely it is that they are there."""

import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from recspark.errors import UserError
from recspark.training.launcher import LocalRanks
from recspark.training.pair_items import KeptVectors, PairItems, PairUsers, spread_over
from recspark.training.pair_step import Draws, PairSettings, StepItems, candidates_of, log_q
from recspark.training.reader import Step

SHARES = [0.5, 0.25, 0.25, 0.0]
NOTHING = np.empty(0, np.int64)


@pytest.fixture(scope="module")
def items(tmp_path_factory: pytest.TempPathFactory) -> PairItems:
    """Item n has n + 1 tokens, all of them n."""
    folder = tmp_path_factory.mktemp("items")
    order = [2, 0, 3, 1]  # the table's rows are in no order
    columns = {
        "position": pa.array(order, pa.int32()),
        "tokens": [np.full(n + 1, n, "<i4").tobytes() for n in order],
        "share": [SHARES[n] for n in order],
        "bias": [n / 10 for n in order],
    }
    pq.write_table(pa.table(columns), folder / "part.parquet")
    return PairItems(str(folder))


def step(targets: list[int], positives: list[list[int]], mined: list[list[int]] | None = None) -> Step:
    numbers = {"target": np.array(targets, np.int32), "key": np.array([-7, 8, 9][: len(targets)])}
    arrays = {"positives": positives, "mined": mined or [[]] * len(targets)}
    packed = {name: [np.array(row, np.int32) for row in rows] for name, rows in arrays.items()}
    return Step(numbers, packed, len(targets), ("train", 0))


def test_items_come_by_position(items: PairItems):
    assert [row.tolist() for row in items.texts(np.array([3, 1]))] == [[3, 3, 3, 3], [1, 1]]
    assert items.lengths(np.array([3, 1])).tolist() == [4, 2]
    assert items.share.tolist() == SHARES
    assert items.bias.tolist() == [0.0, 0.1, 0.2, 0.3]


def test_each_example_has_what_its_user_has(tmp_path):
    there = {-5: [2, 0], 7: [], 2**62: [1], 9: [3, 2, 1]}
    packed = [np.array(items, "<i4").tobytes() for items in there.values()]
    pq.write_table(
        pa.table({"user": pa.array(list(there), pa.int64()), "positives": packed}), tmp_path / "part.parquet"
    )
    users = PairUsers(str(tmp_path), np.array([9, -5, 7, 9]))  # of other ranks: 2^62
    asked = Step({"user": np.array([9, 7, -5, 9])}, {"history": [NOTHING] * 4}, 8, ("train", 0))
    found = users.beside(asked)
    assert [row.tolist() for row in found.arrays["positives"]] == [[3, 2, 1], [], [2, 0], [3, 2, 1]]
    assert found.size == 8
    assert len(found) == 4
    assert len(users.users) == 3


def test_draws_know_the_example_and_the_epoch_and_nothing_else(items: PairItems):
    draws = Draws(items, 50, PairSettings(hard_negatives=2), seed=1)
    whole = step([0, 1, 2], [[0], [1], [2]], [[3, 1], [0, 2, 3], []])
    last = Step(
        {name: values[1:] for name, values in whole.numbers.items()},
        {name: rows[1:] for name, rows in whole.arrays.items()},
        3,
        ("train", 5),
    )
    drawn, mined = draws.of(whole, 1)
    assert (len(drawn), len(mined)) == (150, 4)
    assert set(mined[:2]) == {3, 1}
    assert draws.of(last, 1)[0].tolist() == drawn[50:].tolist()
    assert draws.of(whole, 2)[0].tolist() != drawn.tolist()


@pytest.mark.parametrize(("exponent", "expected"), [(0.0, [0.25] * 4), (1.0, SHARES), (0.5, [0.414, 0.293, 0.293, 0])])
def test_random_negatives_are_uniform_or_as_popular(items: PairItems, exponent: float, expected: list[float]):
    draws = Draws(items, 20000, PairSettings(popularity_exponent=exponent), seed=1)
    drawn, _ = draws.of(step([0], [[0]]), 0)
    assert np.bincount(drawn, minlength=4) / 20000 == pytest.approx(expected, abs=0.02)


def test_log_q_is_of_being_there_at_all(items: PairItems):
    found = StepItems.of(np.array([0, 1]), np.array([1]), np.array([3]), LocalRanks())
    draws = Draws(items, 1, PairSettings(), seed=1)
    # Two targets and two draws of a quarter each: item 0 is missed by (1/2)² (3/4)², item 1 by (3/4)² (3/4)², 3 by (3/4)².
    assert np.exp(log_q("step", found, items, draws, 2)) == pytest.approx([1 - 9 / 64, 1 - 81 / 256, 1 - 9 / 16])
    assert np.exp(log_q("drawn", found, items, draws, 2)) == pytest.approx([7 / 16] * 3)


def test_what_was_mined_is_certain_as_a_negative_and_a_target_as_likely_as_ever(items: PairItems):
    asked, draws = step([0, 1], [[0], [1]]), Draws(items, 1, PairSettings(), seed=1)
    fresh, kept = torch.zeros(2, 1), torch.zeros(4, 1)
    found = StepItems.of(np.array([0, 1]), NOTHING, np.array([1]), LocalRanks())
    chosen = candidates_of("step", asked, found, fresh, kept, items, draws)
    assert chosen.log_q_C.exp().tolist() == pytest.approx([1 - 9 / 64, 1.0])
    assert chosen.target_log_q_B.exp().tolist() == pytest.approx([1 - 9 / 64, 1 - 81 / 256])


def test_no_positive_of_the_user_is_a_negative(items: PairItems):
    # The examples' users have had items 0 and 2; 1; 2.
    asked = step([0, 1, 2], [[0, 2], [1], [2]])
    found = StepItems.of(np.array([0, 1, 2]), np.array([2, 3]), NOTHING, LocalRanks())
    fresh, kept = torch.arange(8.0).view(4, 2), torch.full((4, 2), -1.0)
    draws = Draws(items, 1, PairSettings(), 1)
    chosen = candidates_of("step", asked, found, fresh, kept, items, draws)
    assert chosen.target_B.tolist() == [0, 1, 2]
    assert chosen.negative_BC.int().tolist() == [[0, 1, 0, 1], [1, 0, 1, 1], [1, 1, 0, 1]]
    chosen = candidates_of("drawn", asked, found, fresh, kept, items, draws)
    assert chosen.negative_BC.int().tolist() == [[0, 0, 0, 1], [0, 0, 1, 1], [0, 0, 0, 1]]


def test_the_catalogue_has_the_steps_vectors_in_their_places(items: PairItems):
    found = StepItems.of(np.array([2, 0]), NOTHING, NOTHING, LocalRanks())
    fresh = torch.tensor([[1.0], [2.0]], requires_grad=True)
    asked = step([2, 0], [[2, 3], [0]])
    chosen = candidates_of(
        "catalogue", asked, found, fresh, torch.zeros(4, 1), items, Draws(items, 0, PairSettings(), 1)
    )
    assert chosen.vector_CK[:, 0].tolist() == [1, 0, 2, 0]
    assert chosen.target_B.tolist() == [2, 0]
    assert chosen.negative_BC.int().tolist() == [[1, 1, 0, 0], [0, 1, 1, 1]]
    chosen.vector_CK.sum().backward()
    assert fresh.grad.tolist() == [[1.0], [1.0]]


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_however_many_ranks_share_the_work_the_order_is_kept(size: int):
    positions, asked = np.arange(10, 15), []

    class Rank(LocalRanks):
        def __init__(self, rank: int):
            self.rank, self.size = rank, size

    def encode(share: np.ndarray) -> torch.Tensor:
        asked.append(share.tolist())
        return torch.from_numpy(share)[:, None]

    parts: list[torch.Tensor] = []
    for rank in range(size):
        spread_over(positions, encode, Rank(rank), lambda rows, _: parts.append(rows) or torch.zeros(99, 1))
    found = spread_over(positions, encode, Rank(0), lambda rows, _: torch.cat(parts))
    assert found[:, 0].tolist() == positions.tolist()
    assert len({len(share) for share in asked}) == 1


def test_vectors_without_room_on_the_disk_are_an_error_that_says_where(monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(UserError, match=r"has no room for the vectors of 10 items, 80 bytes a rank .* set TMPDIR"):
        KeptVectors(10, 2, torch.device("cpu"))
