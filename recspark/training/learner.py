"""What a rank trains: the lesson, the settings, what of the model learns, and its state in and out of a checkpoint."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from pydantic import Field
from torch import Tensor, nn

from recspark.config import Settings
from recspark.models.adaptation import trainable
from recspark.training import checkpoint
from recspark.training.launcher import Ranks
from recspark.training.reader import Columns, ReaderKind, Shard, Step


class TrainingSettings(Settings):
    """How, and for how long, whatever is learned."""

    reader: ReaderKind = Field("petastorm", description="petastorm | arrow")
    epochs: int = Field(6, ge=1, description="at most; fewer when the held-out loss stops falling")
    batch_size: int = Field(128, ge=1, description="examples of a step, over all ranks")
    warmup_steps: int = Field(10, ge=0, description="steps of linear rise; then a linear fall to 0")
    weight_decay: float = Field(0.01, ge=0, description="of AdamW")
    max_gradient_norm: float = Field(1.0, gt=0, description="gradients are clipped to it")
    dropout: float = Field(0.0, ge=0, lt=1, description="of the encoder; at 0 any number of ranks learns the same")
    patience: int = Field(2, ge=1, description="epochs without a lower held-out loss before it stops")


# Losses (B,) of this rank's share of a step: of the model to call, the step, and the epoch (0: before the first).
Losses = Callable[[nn.Module, Step, int], Tensor]


class Lesson(Protocol):
    """What is learned from what: a model, the columns of its training table, and a loss an example. Must be picklable."""

    @property
    def columns(self) -> Columns: ...

    def make_model(self) -> nn.Module:
        """The model before the first step, on the CPU; what does not learn has requires_grad off."""

    def learning_rate(self, parameter: str) -> float:
        """Peak of the named parameter."""

    def losses(self, model: nn.Module, shard: Shard, device: torch.device, ranks: Ranks) -> Losses:
        """Made once a rank, when `model` is on its device and in its starting state."""


@dataclass(frozen=True)
class TrainingJob:
    """All that a rank is told. Paths are of the lake, or of every machine."""

    settings: TrainingSettings
    lesson: Lesson
    examples: str  # the training table; a sub-folder shard=R for each rank
    checkpoints: str
    tensorboard: str
    seed: int
    threads: int
    until: int | None = (
        None  # the epoch to stop at, where it is known; the learning rate falls as it would over all of them
    )


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

    model: nn.Module
    parameters: dict[str, nn.Parameter]
    optimizer: torch.optim.Optimizer
    device: torch.device
    best: dict[str, Tensor] = field(default_factory=dict)


def make_learner(job: TrainingJob, ranks: Ranks) -> Learner:
    """The model as it is before the first step, and its optimizer."""
    device = torch.device("cuda", ranks.local_rank) if torch.cuda.is_available() else torch.device("cpu")
    model = job.lesson.make_model().to(device).train()
    parameters = trainable(model)
    by_rate: dict[float, list[nn.Parameter]] = {}
    for name, parameter in parameters.items():
        by_rate.setdefault(job.lesson.learning_rate(name), []).append(parameter)
    groups = [{"params": group, "lr": rate, "peak": rate} for rate, group in by_rate.items()]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.99), weight_decay=job.settings.weight_decay)
    return Learner(model, parameters, optimizer, device)


def mixed_precision(device: torch.device) -> bool:
    """Whether steps are computed in bf16: on a GPU that has it, which is not one that emulates it."""
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def set_dropout(model: nn.Module, probability: float) -> None:
    """Of every dropout that the model has: a module, or a number that a module calls a function with, as OPT's layers do."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = probability
        for name, value in vars(module).items():
            if "dropout" in name and isinstance(value, float):
                setattr(module, name, probability)


def keep_if_best(progress: Progress, learner: Learner, epoch: int, held_out: float | None) -> None:
    """Remember the parameters if the held-out loss is the lowest so far; without held-out items the last are the best."""
    if held_out is None or held_out < progress.best_loss:
        progress.best_epoch, progress.best_loss = epoch, float("inf") if held_out is None else held_out
        learner.best = {name: p.detach().cpu().clone() for name, p in learner.parameters.items()}


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
