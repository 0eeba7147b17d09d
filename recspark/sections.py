"""What the sections of a deployment ask of one another: settings that hold each by itself, and not together."""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from pydantic import ValidationError

from recspark.config import describe
from recspark.data.splits import Provided
from recspark.evaluation.baselines import Popularity
from recspark.models.encoder import PRETRAINED
from recspark.models.language import Continued
from recspark.stages.trials import SEARCHED
from recspark.tuning.space import check_space

if TYPE_CHECKING:
    from recspark.pipeline import Deployment


def faults_between(deployment: "Deployment") -> list[str]:
    """A line each. The search space is looked at where the rest holds, for it is tried out on the rest."""
    return [fault for check in CHECKS for fault in check(deployment)] or list(space(deployment))


def encoder(deployment: "Deployment") -> Iterator[str]:
    path, pretrain = deployment.encoder.path, deployment.pretrain
    if path == PRETRAINED and pretrain is None:
        yield "encoder.path is required: a transformers model directory; or a section pretrain, which makes one"
    if path != PRETRAINED and pretrain is not None:
        yield "encoder.path is set, so nothing would read the model that pretrain makes: leave out one of them"
    if pretrain is None or isinstance(pretrain.start, Continued):
        return
    if (longest := deployment.encoder.max_length) > (positions := pretrain.start.positions):
        yield f"encoder.max_length is {longest}, more than the {positions} of pretrain.start.positions: raise these, or lower it"


def ratings(deployment: "Deployment") -> Iterator[str]:
    if deployment.ratings is None:
        return
    if deployment.preprocess.interactions.columns.rating is None:
        yield "ratings needs preprocess.interactions.columns.rating, the raw column of ratings; or leave out the section ratings"
    there = deployment.preprocess.users.attributes if deployment.preprocess.users else {}
    if missing := [name for name in deployment.ratings.user_features if name not in there]:
        yield f"ratings.user_features names {', '.join(missing)}, which preprocess.users.attributes does not; it has {sorted(there)}"


def combine(deployment: "Deployment") -> Iterator[str]:
    if deployment.combine and deployment.rerank:
        yield (
            "rerank learns from lists that it makes anew without the last events, and it cannot make those of combine: "
            "leave out one of the two sections"
        )
    if deployment.combine and deployment.index:
        yield (
            "index: the vectors that combine makes are longer than the catalogue, which is small enough for exact lists then; "
            "leave out one of the two sections"
        )


def sequence(deployment: "Deployment") -> Iterator[str]:
    if deployment.sequence is None:
        return
    if deployment.combine is None:
        yield "sequence: the lists would not know of it without combine; write combine: {}, or leave it out"
    if deployment.sequence.shape.reads == "order" and not has_order(deployment):
        yield (
            "sequence learns what comes after what, and needs preprocess.interactions.columns.timestamp or .order; "
            "name one, set sequence.shape.reads to set, or leave out the section sequence"
        )


def popularity(deployment: "Deployment") -> Iterator[str]:
    aging = any(isinstance(b, Popularity) and b.half_life_days for b in deployment.evaluate.baselines)
    if aging and deployment.preprocess.interactions.columns.timestamp is None:
        yield (
            "evaluate.baselines: popularity.half_life_days needs preprocess.interactions.columns.timestamp, the raw column of times; "
            "or leave it out"
        )


def tuning(deployment: "Deployment") -> Iterator[str]:
    settings, split = deployment.tune, deployment.tune.validation
    if isinstance(split, Provided):
        yield "tune.validation is drawn from train rows, where a column cannot tell; use another kind"
    elif split and split.needs_order and not has_order(deployment):
        yield f"tune.validation {split.kind} needs preprocess.interactions.columns.timestamp or .order; name one, or use kind random"
    if mined := [path for path in settings.space if path.startswith("finetune.pairs.hard_")]:
        yield f"tune.space: {', '.join(mined)} cannot be searched: hard negatives come from the lists of an earlier date, which no trial has"
    if settings.space and settings.metric.k > deployment.candidates.top_k:
        yield f"tune.metric.k is {settings.metric.k}, but candidates.top_k is {deployment.candidates.top_k}; lower the one or raise the other"


def space(deployment: "Deployment") -> Iterator[str]:
    if not deployment.tune.space:
        return
    model, holds = type(deployment), {**deployment.model_dump(mode="json"), "tune": {}}
    try:
        check_space(deployment.tune.space, model, holds, SEARCHED)
    except ValidationError as error:
        yield from (describe(fault, model) for fault in error.errors())


def has_order(deployment: "Deployment") -> bool:
    columns = deployment.preprocess.interactions.columns
    return bool(columns.timestamp or columns.order)


CHECKS: Sequence[Callable[["Deployment"], Iterator[str]]] = (encoder, ratings, combine, sequence, popularity, tuning)
