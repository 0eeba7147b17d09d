from types import SimpleNamespace

import pytest

from recspark.training.pair_lesson import Reading


class Counted(Reading):
    def __init__(self, refresh_steps: int | None):
        self.refresh_steps, self.learned, self.epoch, self.said = refresh_steps, 0, -1, ""

    def refresh(self) -> None:
        self.said += "R"


@pytest.mark.parametrize(
    ("steps", "held_out", "expected"),
    [
        (None, True, "RvttttRvttttRv"),
        (None, False, "RttttRtttt"),
        (2, True, "RvttRttRvttRttRv"),
        (3, False, "RtttRtRtttRt"),
    ],
)
def test_vectors_are_made_anew_when_the_model_has_learned(steps: int | None, held_out: bool, expected: str):
    reading = Counted(steps)
    train, valid = SimpleNamespace(key=("train", 0)), SimpleNamespace(key=("valid", 0))
    for epoch in range(3):  # before the first there is a look at the held-out examples alone
        for step, number in ((train, epoch), *([(valid, 0)] if held_out else [])):
            for _ in range(4 if epoch and step is train else int(step is valid)):
                reading.keep_up(step, number)  # type: ignore[arg-type]
                reading.said += "t" if step is train else "v"
    assert reading.said == expected
