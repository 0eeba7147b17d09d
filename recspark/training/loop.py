"""The training loop: the same on one rank and on many, whatever launched them.

A step is a batch of items over all ranks. Every rank has a share of every step, so all take the same number of steps; the
shares' losses are divided by the whole batch's size, so the averaged gradient is that of one rank reading the whole batch.
"""

import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from recspark.config import Settings
from recspark.models.adaptation import Adaptation, LastLayers, trainable
from recspark.models.encoder import load_encoder
from recspark.models.objectives import CorrectedAllPairs, Objective
from recspark.models.retriever import Factors, Retriever
from recspark.training import checkpoint
from recspark.training.launcher import Ranks
from recspark.training.prefix import KeptStates, keep_prefix
from recspark.training.reader import Batch, ReaderKind, Shard
from recspark.training.status import Reporter


class TrainingSettings(Settings):
    """What is learned, how, and for how long."""

    adaptation: Adaptation = LastLayers()
    objective: Objective = CorrectedAllPairs()
    reader: ReaderKind = Field("petastorm", description="petastorm | arrow")
    epochs: int = Field(6, ge=1, description="at most; fewer when the held-out loss stops falling")
    batch_size: int = Field(128, ge=1, description="items of a step, over all ranks")
    head_learning_rate: float = Field(
        1e-3, gt=0, description="peak, of the linear head; the encoder's is the adaptation's"
    )
    warmup_steps: int = Field(10, ge=0, description="steps of linear rise; then a linear fall to 0")
    weight_decay: float = Field(0.01, ge=0)
    max_gradient_norm: float = Field(1.0, gt=0, description="gradients are clipped to it")
    dropout: float = Field(0.0, ge=0, lt=1, description="of the encoder; at 0 any number of ranks learns the same")
    prefix_gib: float = Field(
        4.0, ge=0, description="disk a rank may take to keep what frozen lower layers make of the texts; 0: never kept"
    )
    patience: int = Field(2, ge=1, description="epochs without a lower held-out loss before it stops")


@dataclass(frozen=True)
class TrainingJob:
    """All that a rank is told. Paths are of the lake, or of every machine."""

    settings: TrainingSettings
    base: str  # the base encoder's folder
    factors: str  # the model `factors`
    examples: str  # the training table; a sub-folder shard=R for each rank
    checkpoints: str
    tensorboard: str
    seed: int
    threads: int


@dataclass
class Progress:
    """Where a training stands; what a checkpoint keeps beside tensors. log: a row an epoch."""

    epoch: int = 0
    best_epoch: int = 0
    best_loss: float = float("inf")
    log: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class Learner:
    """The model, what of it learns, and the best state so far."""

    model: Retriever
    parameters: dict[str, nn.Parameter]
    optimizer: torch.optim.Optimizer
    user_gram: Tensor
    device: torch.device
    kept: KeptStates | None = None
    best: dict[str, Tensor] = field(default_factory=dict)


def train_rank(job: TrainingJob, ranks: Ranks, reporter: Reporter) -> None:
    """Train this rank's share, from the newest checkpoint on if there is one; the result is the newest checkpoint."""
    torch.set_num_threads(job.threads)
    torch.manual_seed(job.seed)
    shard = Shard(f"{job.examples}/shard={ranks.rank}", job.settings.reader, len(Factors.load(job.factors).bias))
    learner = make_learner(job, ranks)
    # Horovod's optimizer is a new object with a state of its own: only what comes after this is kept and restored.
    model, learner.optimizer = ranks.prepare(learner.model, learner.optimizer)
    progress = restore(job, learner)
    check_steps(shard, ranks)
    learner.kept = keep_prefix(
        learner.model.encoder, int(job.settings.prefix_gib * 2**30), partial(sample, shard, learner)
    )
    writer = summary_writer(job, ranks)
    if not progress.log:
        start = evaluate(learner, shard, ranks, job.settings.objective)
        log_epoch(progress, writer, 0, None, start, 0, 0.0)
        keep_if_best(progress, learner, 0, start)
    while progress.epoch < job.settings.epochs and progress.epoch - progress.best_epoch < job.settings.patience:
        epoch, began = progress.epoch + 1, time.time()
        loss, examples = train_epoch(job, learner, model, shard, ranks, reporter, epoch)
        held_out = evaluate(learner, shard, ranks, job.settings.objective)
        progress.epoch = epoch
        log_epoch(progress, writer, epoch, loss, held_out, examples, time.time() - began)
        keep_if_best(progress, learner, epoch, held_out)
        if ranks.rank == 0:
            checkpoint.save(job.checkpoints, epoch, state_tensors(learner), vars(progress))
    if writer:
        writer.close()


def keep_if_best(progress: Progress, learner: Learner, epoch: int, held_out: float | None) -> None:
    """Remember the parameters if the held-out loss is the lowest so far; without held-out items the last are the best."""
    if held_out is None or held_out < progress.best_loss:
        progress.best_epoch, progress.best_loss = epoch, float("inf") if held_out is None else held_out
        learner.best = {name: p.detach().cpu().clone() for name, p in learner.parameters.items()}


def make_learner(job: TrainingJob, ranks: Ranks) -> Learner:
    """The model as it is before the first step, and its optimizer."""
    settings, factors = job.settings, Factors.load(job.factors)
    device = torch.device("cuda", ranks.local_rank) if torch.cuda.is_available() else torch.device("cpu")
    model = make_model(job.base, factors, settings).to(device).train()
    parameters = trainable(model)
    groups = [
        {"params": [p for n, p in parameters.items() if n.startswith(prefix)], "lr": rate, "peak": rate}
        for prefix, rate in (("head.", settings.head_learning_rate), ("encoder.", settings.adaptation.learning_rate))
    ]
    optimizer = torch.optim.AdamW(
        [g for g in groups if g["params"]], betas=(0.9, 0.99), weight_decay=settings.weight_decay
    )
    gram = torch.from_numpy(factors.user_gram).float().to(device)
    return Learner(model, parameters, optimizer, gram, device)


def make_model(base: str, factors: Factors, settings: TrainingSettings) -> Retriever:
    """The base encoder, adapted, under the head that the factorization fitted."""
    encoder = load_encoder(base)
    for module in encoder.modules():
        if isinstance(module, nn.Dropout):
            module.p = settings.dropout
    settings.adaptation.apply(encoder)
    return Retriever(encoder, factors.weight, factors.bias)


def train_epoch(
    job: TrainingJob,
    learner: Learner,
    model: nn.Module,
    shard: Shard,
    ranks: Ranks,
    reporter: Reporter,
    epoch: int,
) -> tuple[float, int]:
    """(mean loss, examples over all ranks) of one epoch; each item is read once."""
    steps, began, done = shard.steps("train"), time.time(), 0
    order = np.random.default_rng([job.seed, epoch]).permutation(steps)
    total = torch.zeros(2, dtype=torch.float64)
    model.train()
    for step, batch in enumerate(shard.batches("train", order)):
        set_learning_rates(learner.optimizer, job.settings, (epoch - 1) * steps + step, job.settings.epochs * steps)
        learner.optimizer.zero_grad()
        losses = batch_losses(learner, model, batch, job.settings.objective)
        (losses.sum() / batch.size * ranks.size).backward()
        ranks.step(learner.optimizer, list(learner.parameters.values()), job.settings.max_gradient_norm)
        total += torch.tensor([losses.sum().item(), len(losses)], dtype=torch.float64)
        done += batch.size
        if not np.isfinite(total[0].item()):
            raise FloatingPointError(f"the loss is not finite at epoch {epoch}, step {step + 1}")
        reporter.update(
            state="running",
            epoch=epoch,
            step=(epoch - 1) * steps + step + 1,
            steps=job.settings.epochs * steps,
            loss=losses.mean().item(),
            examples_per_second=done / (time.time() - began),
        )
    loss_sum, examples = ranks.sum(total).tolist()
    return loss_sum / examples, int(examples)


def batch_losses(learner: Learner, model: nn.Module, batch: Batch, objective: Objective) -> Tensor:
    """(B,) losses of this rank's share of a step."""
    batch = batch.to(learner.device)
    mixed = learner.device.type == "cuda" and torch.cuda.is_bf16_supported()
    with torch.autocast(learner.device.type, dtype=torch.bfloat16, enabled=mixed), below(learner, batch):
        vectors = model(batch.token_ids, batch.mask)
    return objective.loss(vectors.float(), batch.targets, learner.user_gram)


def below(learner: Learner, batch: Batch) -> AbstractContextManager[None]:
    """Within it, what the frozen layers make of the batch is taken from where it is kept, if it is."""
    if learner.kept is None:
        return nullcontext()
    return learner.kept.prefix.given(learner.kept.of(batch.key, batch.token_ids, batch.mask))


def sample(shard: Shard, learner: Learner) -> tuple[Tensor, Tensor]:
    """Token ids and mask of a few texts."""
    batch = shard.batch("train", 0).to(learner.device)
    return batch.token_ids[:4], batch.mask[:4]


def evaluate(learner: Learner, shard: Shard, ranks: Ranks, objective: Objective) -> float | None:
    """Mean loss over the held-out items of all ranks; None where none are held out."""
    total = torch.zeros(2, dtype=torch.float64)
    learner.model.eval()
    with torch.no_grad():
        for batch in shard.batches("valid", np.arange(shard.steps("valid"))):
            losses = batch_losses(learner, learner.model, batch, objective)
            total += torch.tensor([losses.sum().item(), len(losses)], dtype=torch.float64)
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


def state_tensors(learner: Learner) -> dict[str, Tensor]:
    """What a checkpoint keeps: parameters that learn, the optimizer's state of each, and the best parameters."""
    tensors: dict[str, Tensor] = {f"last.{name}": p for name, p in learner.parameters.items()}
    tensors |= {f"best.{name}": t for name, t in learner.best.items()}
    for name, parameter in learner.parameters.items():
        for key, value in learner.optimizer.state[parameter].items():
            tensors[f"optimizer.{key}.{name}"] = value if isinstance(value, Tensor) else torch.tensor(value)
    return tensors


def restore(job: TrainingJob, learner: Learner) -> Progress:
    """Put the newest checkpoint's state into the learner; returns where it stood."""
    found = checkpoint.load_last(job.checkpoints)
    if found is None:
        return Progress()
    tensors, facts = found
    with torch.no_grad():
        for name, parameter in learner.parameters.items():
            parameter.copy_(tensors[f"last.{name}"])
            state = {
                key.split(".")[1]: value
                for key, value in tensors.items()
                if key.startswith("optimizer.") and key.split(".", 2)[2] == name
            }
            if state:
                learner.optimizer.state[parameter] = {
                    k: v if k == "step" else v.to(learner.device) for k, v in state.items()
                }
    learner.best = {name: tensors[f"best.{name}"] for name in learner.parameters}
    return Progress(**facts)


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


def summary_writer(job: TrainingJob, ranks: Ranks) -> Any:
    """TensorBoard's writer on rank 0."""
    if ranks.rank != 0:
        return None
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(job.tensorboard)
