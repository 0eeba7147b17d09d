"""The training loop: the same on one rank and on many, whatever launched them.

A step is a batch of examples over all ranks. Every rank has a share of every step, so all take the same number of steps; the
shares' losses are divided by the whole batch's size, so the averaged gradient is that of one rank reading the whole batch.
"""

import time
from typing import Any

import numpy as np
import torch
from torch import nn

from recspark.training import checkpoint
from recspark.training.launcher import Ranks
from recspark.training.learner import (
    Learner,
    Losses,
    Progress,
    TrainingJob,
    TrainingSettings,
    keep_if_best,
    make_learner,
    restore,
    state_tensors,
)
from recspark.training.reader import Shard, Step
from recspark.training.status import Reporter


def train_rank(job: TrainingJob, ranks: Ranks, reporter: Reporter) -> None:
    """Train this rank's share, from the newest checkpoint on if there is one; the result is the newest checkpoint."""
    torch.set_num_threads(job.threads)
    torch.manual_seed(job.seed)
    shard = Shard(f"{job.examples}/shard={ranks.rank}", job.settings.reader, job.lesson.columns)
    learner = make_learner(job, ranks)
    reporter.update()
    # Horovod's optimizer is a new object with a state of its own: only what comes after this is kept and restored.
    model, learner.optimizer = ranks.prepare(learner.model, learner.optimizer)
    progress = restore(job, learner)
    check_steps(shard, ranks)
    losses_of = job.lesson.losses(learner.model, shard, learner.device, ranks)
    writer = summary_writer(job, ranks)
    if not progress.log:
        start = evaluate(job, learner, losses_of, shard, ranks, reporter)
        log_epoch(progress, writer, 0, None, start, 0, 0.0)
        keep_if_best(progress, learner, 0, start)
        reporter.update(held_out=held_out_losses(progress))
    last = job.settings.epochs if job.until is None else job.until
    while progress.epoch < last and progress.epoch - progress.best_epoch < job.settings.patience:
        epoch, began = progress.epoch + 1, time.time()
        loss, examples = train_epoch(job, learner, model, losses_of, shard, ranks, reporter, epoch)
        held_out = evaluate(job, learner, losses_of, shard, ranks, reporter)
        progress.epoch = epoch
        log_epoch(progress, writer, epoch, loss, held_out, examples, time.time() - began)
        keep_if_best(progress, learner, epoch, held_out)
        reporter.update(held_out=held_out_losses(progress))
        if ranks.rank == 0:
            checkpoint.save(job.checkpoints, epoch, state_tensors(learner), vars(progress))
    if writer:
        writer.close()


def train_epoch(
    job: TrainingJob,
    learner: Learner,
    model: nn.Module,
    losses_of: Losses,
    shard: Shard,
    ranks: Ranks,
    reporter: Reporter,
    epoch: int,
) -> tuple[float, int]:
    """(mean loss, examples over all ranks) of one epoch; each example is read once."""
    steps, began, done = shard.steps("train"), time.time(), 0
    order = np.random.default_rng([job.seed, epoch]).permutation(steps)
    torch.manual_seed(
        int(np.random.default_rng([job.seed, epoch, ranks.rank]).integers(2**62))
    )  # dropout, also after a kill
    total = torch.zeros(2, dtype=torch.float64)
    model.train()
    for number, step in enumerate(shard.in_order("train", order)):
        set_learning_rates(learner.optimizer, job.settings, (epoch - 1) * steps + number, job.settings.epochs * steps)
        learner.optimizer.zero_grad()
        losses = losses_of(model, step, epoch)
        (losses.sum() / step.size * ranks.size).backward()
        ranks.step(learner.optimizer, list(learner.parameters.values()), job.settings.max_gradient_norm)
        total += torch.tensor([losses.sum().item(), len(losses)], dtype=torch.float64)
        done += step.size
        require_finite(total[0].item(), f"the loss is not finite at epoch {epoch}, step {number + 1}", job, shard, step)
        reporter.update(
            state="running",
            epoch=epoch,
            step=(epoch - 1) * steps + number + 1,
            steps=job.settings.epochs * steps,
            loss=losses.mean().item(),
            examples_per_second=done / (time.time() - began),
        )
    loss_sum, examples = ranks.sum(total).tolist()
    return loss_sum / examples, int(examples)


def require_finite(loss: float, what: str, job: TrainingJob, shard: Shard, step: Step) -> None:
    """FloatingPointError, with the ids of the step's share, if the loss is not."""
    if not np.isfinite(loss):
        names = ", ".join(map(str, shard.ids(step.key)))
        raise FloatingPointError(f"{what}, with {job.lesson.columns.id} {names}")


def evaluate(
    job: TrainingJob, learner: Learner, losses_of: Losses, shard: Shard, ranks: Ranks, reporter: Reporter
) -> float | None:
    """Mean loss over the held-out examples of all ranks, or over what their lesson tells of them; None where none are held out."""
    total = torch.zeros(2, dtype=torch.float64)
    learner.model.eval()
    with torch.no_grad():
        for step in shard.in_order("valid", np.arange(shard.steps("valid"))):
            losses = losses_of(learner.model, step, 0)
            total += torch.tensor([losses.sum().item(), len(losses)], dtype=torch.float64)
            require_finite(total[0].item(), "the held-out loss is not finite", job, shard, step)
            reporter.update()
    loss_sum, examples = ranks.sum(total).tolist()
    return loss_sum / examples if examples else None


def set_learning_rates(optimizer: torch.optim.Optimizer, settings: TrainingSettings, step: int, steps: int) -> None:
    """Linear rise over the warm-up, then a linear fall to 0 at the last step."""
    rise = (step + 1) / max(settings.warmup_steps, 1)
    fall = (steps - step) / max(steps - settings.warmup_steps, 1)
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * min(rise, fall, 1.0)


def check_steps(shard: Shard, ranks: Ranks) -> None:
    """Every rank must have a share of every step, or the ranks would wait for each other for ever."""
    mine = torch.tensor(
        [
            shard.steps("train"),
            shard.steps("valid"),
            len(shard.by_step),
        ],
        dtype=torch.float64,
    )
    total = ranks.sum(mine)
    if not torch.equal(total, mine * ranks.size) or mine[0] + mine[1] != mine[2]:
        raise RuntimeError(
            f"rank {ranks.rank} has {mine.int().tolist()} steps, all ranks together {total.int().tolist()}: the shares differ"
        )


def log_epoch(
    progress: Progress,
    writer: Any,
    epoch: int,
    train_loss: float | None,
    valid_loss: float | None,
    examples: int,
    seconds: float,
) -> None:
    progress.log.append(
        {
            "epoch": epoch,
            "train_loss": train_loss,
            "valid_loss": valid_loss,
            "examples": examples,
            "seconds": round(seconds, 3),
        }
    )
    for name, value in (("loss/train", train_loss), ("loss/valid", valid_loss)):
        if writer and value is not None:
            writer.add_scalar(name, value, epoch)


def held_out_losses(progress: Progress) -> tuple[float | None, ...]:
    """By epoch, from 0."""
    return tuple(row["valid_loss"] for row in progress.log)


def summary_writer(job: TrainingJob, ranks: Ranks) -> Any:
    """TensorBoard's writer on rank 0."""
    if ranks.rank != 0:
        return None
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(job.tensorboard)
