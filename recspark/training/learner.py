"""What a rank trains: the settings, the model, what of it learns, and its state in and out of a checkpoint."""

from dataclasses import dataclass, field
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from recspark.config import Settings
from recspark.lake import local_folder
from recspark.models.adaptation import Adaptation, LastLayers, trainable
from recspark.models.encoder import EncoderConfig, load_encoder
from recspark.models.objectives import CorrectedAllPairs, Objective
from recspark.models.retriever import Factors, Retriever
from recspark.training import checkpoint
from recspark.training.launcher import Ranks
from recspark.training.prefix import KeptStates
from recspark.training.reader import ReaderKind


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
    base: EncoderConfig  # the base encoder
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


def make_learner(job: TrainingJob, ranks: Ranks) -> Learner:
    """The model as it is before the first step, and its optimizer."""
    settings, factors = job.settings, Factors.load(local_folder(job.factors))
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


def make_model(base: EncoderConfig, factors: Factors, settings: TrainingSettings) -> Retriever:
    """The base encoder, adapted, under the head that the factorization fitted."""
    encoder = load_encoder(base.path, base.pooling, base.trust_remote_code)
    for module in encoder.modules():
        if isinstance(module, nn.Dropout):
            module.p = settings.dropout
    settings.adaptation.apply(encoder)
    return Retriever(encoder, factors.weight, factors.bias)


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
