"""The progress of a training in the driver's terminal: a bar with loss, items a second and time left, as rank 0 tells it."""

import logging
import sys

from tqdm import tqdm

from recspark.training.status import Status

log = logging.getLogger("recspark")


class ProgressBar:
    """A tqdm bar where there is a terminal; a log line an epoch where there is none."""

    def __init__(self, launcher: str, ranks: int):
        self.label = f"{launcher}, {ranks} rank{'s' if ranks > 1 else ''}"
        quiet = log.getEffectiveLevel() > logging.INFO or not sys.stderr.isatty()
        self.bar: tqdm[None] = tqdm(
            desc=f"  {self.label}: starting", unit="step", disable=quiet, leave=False, dynamic_ncols=True
        )
        self.told = 0

    def __enter__(self) -> "ProgressBar":
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def show(self, statuses: dict[int, Status]) -> None:
        """Bring the bar up to what rank 0 last said."""
        status = statuses.get(0)
        if status is None or status.loss is None:
            return
        if self.bar.disable and status.epoch > self.told:
            self.told = status.epoch
            log.info(
                "  %s: epoch %d, loss %.4f, %.0f examples/s",
                self.label,
                status.epoch,
                status.loss,
                status.examples_per_second or 0,
            )
        self.bar.total = status.steps
        self.bar.set_description(f"  {self.label}: epoch {status.epoch}", refresh=False)
        self.bar.set_postfix(loss=f"{status.loss:.4f}", examples_s=f"{status.examples_per_second:.0f}", refresh=False)
        self.bar.update(status.step - self.bar.n)
