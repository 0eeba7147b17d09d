"""The loss of windows of unlike length by hand."""

import numpy as np
import pytest
import torch

from recspark.data.catalogue import Catalogue
from recspark.models.sequence import SequenceShape
from recspark.training.launcher import LocalRanks
from recspark.training.reader import Step
from recspark.training.sequence_lesson import SequenceLesson, centred, drawn_halves

SHAPE = SequenceShape(size=8, layers=1, heads=2, longest=5)
TEXTS = np.random.default_rng(3).normal(size=(6, 4)).astype(np.float32)


@pytest.fixture
def catalogue(tmp_path) -> Catalogue:
    np.save(tmp_path / "fine_tuned.npy", TEXTS)
    return Catalogue(str(tmp_path), len(TEXTS))


def lesson(catalogue: Catalogue, **given) -> SequenceLesson:
    settings = {"texts": ("fine_tuned",), "own": False, "shape": SHAPE, "dropout": 0.0, "temperature": 0.1}
    return SequenceLesson(catalogue, **{**settings, "peak": 1e-3, "seed": 7, **given})


def test_a_windows_loss_is_the_sum_of_its_wanted_events_times_its_weight(catalogue: Catalogue):
    windows = [([1, 4, 2], [0, 1, 1]), ([5, 0], [0, 1]), ([3, 2, 1, 0], [0, 0, 0, 1])]
    arrays = {name: [np.array(w[n], "<i4") for w in windows] for n, name in enumerate(("positions", "wanted"))}
    step = Step({"weight": np.array([1.5, 0.75, 0.5], np.float32)}, arrays, 3, ("train", 0))
    made = lesson(catalogue)
    model = made.make_model().eval()
    losses = made.losses(model, None, torch.device("cpu"), LocalRanks())(model, step, 1)
    expected = []
    for (positions, wanted), weight in zip(windows, step.numbers["weight"], strict=True):
        after, items = model(torch.tensor([positions[:-1]]))
        likely = torch.log_softmax(after[0] @ items.T / 0.1, -1)
        asked = [-likely[n - 1, positions[n]] for n in range(len(positions)) if wanted[n]]
        expected.append(weight * sum(asked).item())
    assert losses.tolist() == pytest.approx(expected, rel=1e-5)
    losses.sum().backward()
    assert model.text_map.weight.grad.abs().sum() > 0


def set_step(windows: list[tuple[list[int], list[int]]], part: str) -> Step:
    arrays = {name: [np.array(w[n], "<i4") for w in windows] for n, name in enumerate(("positions", "wanted"))}
    return Step({"weight": np.full(len(windows), 0.5, np.float32)}, arrays, len(windows), (part, 0))


def set_loss(model, read: list[int], asked: list[int]) -> float:
    """The mean over those asked for, by hand; no softmax over what is read."""
    after, items = model(torch.tensor([read or [0]]))
    scores = (after[0, -1] if read else torch.zeros(8)) @ items.T / 0.1
    scores[read] = -torch.inf
    return -torch.log_softmax(scores, -1)[asked].mean().item()


def test_of_a_set_one_half_is_asked_from_the_other(catalogue: Catalogue):
    made = lesson(catalogue, shape=SHAPE.model_copy(update={"reads": "set"}))
    model = made.make_model().eval()
    losses = made.losses(model, None, torch.device("cpu"), LocalRanks())
    step = set_step([([1, 4, 2, 1], [0, 1, 1, 1]), ([5, 0], [0, 1]), ([3, 3], [0, 1])], "train")
    found = losses(model, step, 2)
    for loss, positions, wanted in zip(found, step.arrays["positions"], step.arrays["wanted"], strict=True):
        read, asked = drawn_halves(positions, 7, 2)
        assert sorted([*read, *asked]) == sorted(set(positions.tolist()))
        expected = set_loss(model, read.tolist(), asked.tolist()) * wanted.sum() * 0.5 if len(asked) else 0.0
        assert loss.item() == pytest.approx(expected, rel=1e-5)
    found.sum().backward()
    assert model.encoder.read.weight.grad.abs().sum() > 0
    assert torch.isfinite(model.text_map.weight.grad).all()


def test_what_is_held_out_of_a_set_is_asked_from_all_the_rest(catalogue: Catalogue):
    made = lesson(catalogue, shape=SHAPE.model_copy(update={"reads": "set"}))
    model = made.make_model().eval()
    losses = made.losses(model, None, torch.device("cpu"), LocalRanks())
    step = set_step([([1, 4, 2], [0, 1, 0]), ([5, 0], [1, 1]), ([3, 3], [0, 1])], "valid")
    expected = [set_loss(model, [1, 2], [4]) * 0.5, set_loss(model, [], [5, 0]), 0.0]  # the last was had already
    assert losses(model, step, 1).tolist() == pytest.approx(expected, rel=1e-5)
    assert torch.equal(losses(model, step, 1), losses(model, step, 2))


def test_who_has_read_all_that_there_is_teaches_nothing(tmp_path):
    np.save(tmp_path / "fine_tuned.npy", TEXTS[:1])
    made = lesson(Catalogue(str(tmp_path), 1), shape=SHAPE.model_copy(update={"reads": "set"}))
    model = made.make_model()
    step = set_step([([0, 0], [0, 1])], "train")
    losses = made.losses(model, None, torch.device("cpu"), LocalRanks())(model, step, 1)
    losses.sum().backward()
    assert losses.tolist() == [0.0]
    assert torch.isfinite(model.text_map.weight.grad).all()


def test_halves_are_drawn_by_seed_epoch_and_what_was_had(catalogue: Catalogue):
    window = np.arange(40, dtype="<i4")
    read, asked = drawn_halves(window, 7, 1)
    assert (len(read), len(asked)) == (20, 20)
    assert np.array_equal(read, drawn_halves(window.copy(), 7, 1)[0])
    for other in (drawn_halves(window, 7, 2), drawn_halves(window, 8, 1), drawn_halves(window + 1, 7, 1)):
        assert set(read.tolist()) != set(other[0].tolist())


def test_it_starts_alike_everywhere_and_reads_what_sets_texts_apart(catalogue: Catalogue):
    first, second = (lesson(catalogue).make_model() for _ in range(2))
    for (name, ours), theirs in zip(first.state_dict().items(), second.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs), name
    np.testing.assert_allclose(first.texts, centred(TEXTS))
    np.testing.assert_allclose(centred(TEXTS + 5), centred(TEXTS), atol=1e-5)
    assert lesson(catalogue, texts=(), own=True).make_model().text_map is None
