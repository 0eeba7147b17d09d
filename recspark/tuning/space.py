"""The search space: dotted paths of the settings, and what each may be. To add a kind of range: write its class, name it in `Range`.

Settings are here as a YAML file has them, nested dictionaries. Where a section's `kind` is in the space, the paths of that section
count only in the trials whose kind has them.
"""

import copy
import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Annotated, Any, Literal, Protocol

from pydantic import BaseModel, Field, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from recspark.config import Settings, keys_at

Raw = dict[str, Any]
Scalar = str | int | float | bool | None


class Draws(Protocol):
    """Of an Optuna trial, what gives a value."""

    def suggest_int(self, name: str, low: int, high: int, *, step: int, log: bool) -> int: ...

    def suggest_float(self, name: str, low: float, high: float, *, log: bool) -> float: ...

    def suggest_categorical(self, name: str, choices: Sequence[str]) -> Any: ...


class Ends(Settings):
    """What both ranges of numbers must hold to."""

    @model_validator(mode="after")
    def _low_is_below_high(self) -> "Ends":
        low, high, log = (getattr(self, name) for name in ("low", "high", "log"))
        if low >= high:
            raise ValueError(f"low {low:g} should be below high {high:g}")
        if log and low <= 0:
            raise ValueError(f"a log range starts above 0; low is {low:g}")
        return self


class IntRange(Ends):
    """Whole numbers from low to high, both in it, `step` apart."""

    kind: Literal["int"] = "int"
    low: int = Field(description="the least, in the range")
    high: int = Field(description="the greatest, in the range")
    step: int = Field(1, ge=1, description="between two neighbours")
    log: bool = Field(False, description="drawn evenly by the logarithm")

    @model_validator(mode="after")
    def _steps_reach_high(self) -> "IntRange":
        if (self.high - self.low) % self.step or (self.log and self.step > 1):
            raise ValueError(f"step {self.step} should lead from {self.low} to {self.high}, and a log range has step 1")
        return self

    def ends(self) -> tuple[Scalar, ...]:
        return self.low, self.high

    def token(self, value: Any) -> Any:
        """The value as the study keeps it; None if it is not in the range."""
        whole = isinstance(value, int) and not isinstance(value, bool)
        return value if whole and self.low <= value <= self.high and not (value - self.low) % self.step else None

    def draw(self, trial: Draws, name: str) -> Scalar:
        return trial.suggest_int(name, self.low, self.high, step=self.step, log=self.log)


class FloatRange(Ends):
    """Numbers from low to high."""

    kind: Literal["float"] = "float"
    low: float = Field(description="the least, in the range")
    high: float = Field(description="the greatest, in the range")
    log: bool = Field(False, description="drawn evenly by the logarithm")

    def ends(self) -> tuple[Scalar, ...]:
        return self.low, self.high

    def token(self, value: Any) -> Any:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return float(value) if number and self.low <= value <= self.high else None

    def draw(self, trial: Draws, name: str) -> Scalar:
        return trial.suggest_float(name, self.low, self.high, log=self.log)


class Choice(Settings):
    """One of some values; null is one if it is named."""

    kind: Literal["choice"] = "choice"
    of: tuple[Scalar, ...] = Field(min_length=2, description="the values to try")

    @model_validator(mode="after")
    def _differ(self) -> "Choice":
        if len(set(self.tokens)) < len(self.of):
            raise ValueError(f"the values should differ: {list(self.of)}")
        return self

    @property
    def tokens(self) -> list[str]:
        """The values as JSON: 1, 1.0, "1" and true are four."""
        return [json.dumps(value) for value in self.of]

    def ends(self) -> tuple[Scalar, ...]:
        return self.of

    def token(self, value: Any) -> Any:
        found = json.dumps(value)
        return found if found in self.tokens else None

    def draw(self, trial: Draws, name: str) -> Scalar:
        return json.loads(trial.suggest_categorical(name, self.tokens))


Range = Annotated[IntRange | FloatRange | Choice, Field(discriminator="kind")]
Space = Mapping[str, Range]


# ---- settings by path


def put(raw: Raw, values: Mapping[str, Any]) -> Raw:
    """A copy with the values at their paths. A section whose kind changes starts anew, with the defaults of the new one."""
    changed = copy.deepcopy(raw)
    for path in kinds_first(values):
        *parents, last = path.split(".")
        node = changed
        for name in parents:
            node[name] = node.get(name) or {}
            node = node[name]
        if last == "kind" and node.get("kind") != values[path]:
            node.clear()
        node[last] = values[path]
    return changed


def value_at(raw: Raw, path: str) -> Any:
    """What stands at a path, None where nothing does."""
    node: Any = raw
    for name in path.split("."):
        node = node.get(name) if isinstance(node, dict) else None
    return node


def kinds_first(paths: Mapping[str, Any]) -> list[str]:
    """Paths in the order in which they are set and suggested: what decides which others count comes first."""
    return sorted(paths, key=lambda path: (path.rpartition(".")[2] != "kind", path))


def has_key(model: type[BaseModel], raw: Raw, path: str) -> bool:
    """Whether these settings, with the kinds they have, know the path."""
    *parents, last = path.split(".")
    loc: tuple[str, ...] = ()
    node: Any = raw
    for name in parents:
        if name not in keys_at(model, loc):
            return False
        loc = (*loc, name)
        node = node.get(name) if isinstance(node, dict) else None
        if isinstance(node, dict) and "kind" in node:
            loc = (*loc, node["kind"])
    return last in keys_at(model, loc)


# ---- suggestions


def suggest(trial: Draws, space: Space, model: type[BaseModel], raw: Raw, only: Sequence[str] | None = None) -> Raw:
    """Path to value, for the paths that count under the kinds suggested before them. only: no others are drawn."""
    values: Raw = {}
    for path in kinds_first(space):
        if (only is None or path in only) and has_key(model, put(raw, values), path):
            values[path] = space[path].draw(trial, path)
    return values


def own_values(space: Space, model: type[BaseModel], raw: Raw) -> Raw:
    """The settings' own values as the study keeps them, for the paths that have one within their range."""
    known = [path for path in kinds_first(space) if has_key(model, raw, path)]
    tokens = {path: space[path].token(value_at(raw, path)) for path in known}
    return {path: token for path, token in tokens.items() if token is not None}


# ---- mistakes, before anything runs


def check_space(space: Space, model: type[BaseModel], raw: Raw, sections: Sequence[str]) -> None:
    """Raises pydantic's ValidationError with every mistake: a path that may not be searched, that nothing has, or whose ends its
    field does not take. raw: settings that hold. sections: those that a trial runs."""
    mistakes = [(path, fault) for path in space if (fault := path_fault(space, path, model, raw, sections))]
    wrong = {path for path, _ in mistakes}
    for path in space:
        if path not in wrong:
            mistakes += [(path, fault) for fault in end_faults(space, path, model, raw)]
    if mistakes:
        lines = [
            InitErrorDetails(
                type=PydanticCustomError("search_space", "{fault}", {"fault": fault}),
                loc=("tune", "space", path),
                input={},
            )
            for path, fault in mistakes
        ]
        raise ValidationError.from_exception_data("tune.space", lines)


def path_fault(space: Space, path: str, model: type[BaseModel], raw: Raw, sections: Sequence[str]) -> str | None:
    """Why the path cannot be searched, if so."""
    first = path.split(".")[0]
    if first not in sections and first in model.model_fields:
        return f"{first} cannot be searched: all trials share one preprocessed lake and one measure; what can: {', '.join(sections)}"
    loc: tuple[str, ...] = ()
    for name in path.split("."):
        known = sorted(keys_at(model, loc) if loc else sections)
        if name not in known or (loc and not under(model, loc)):
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f"did you mean {'.'.join((*loc, near[0]))!r}?" if near else f"valid keys: {', '.join(known)}"
            return f"unknown key {name!r}; {hint}"
        loc = (*loc, name)
    if under(model, loc):
        return f"is a section; name one of its keys: {', '.join(sorted(keys_at(model, loc)))}"
    if not any(has_key(model, variant, path) for variant in variants(space, raw)):
        return (
            f"these settings do not have it: {kind_path(path)} is {value_at(raw, kind_path(path))!r}; "
            f"set another, or search {kind_path(path)} too"
        )
    return None


def under(model: type[BaseModel], loc: tuple[str, ...]) -> bool:
    """Whether a section lies at this place."""
    return keys_at(model, loc) != keys_at(model, loc[:-1])


def kind_path(path: str) -> str:
    """The key that says which kind of section the path lies in."""
    return f"{path.rpartition('.')[0]}.kind"


def variants(space: Space, raw: Raw) -> Iterator[Raw]:
    """The settings under every combination of the kinds that the space names."""
    kinds = [path for path in space if path.endswith(".kind")]
    for values in product(*(space[path].ends() for path in kinds)):
        yield put(raw, dict(zip(kinds, values, strict=True)))


def end_faults(space: Space, path: str, model: type[BaseModel], raw: Raw) -> list[str]:
    """What its field has against an end of the range, or a choice; each said once."""
    faults: dict[str, None] = {}
    for variant in variants(space, raw):
        for value in space[path].ends() if has_key(model, variant, path) else ():
            try:
                model.model_validate(put(variant, {path: value}))
            except ValidationError as error:
                faults |= dict.fromkeys(f"{value!r}: {e['msg'].removeprefix('Value error, ')}" for e in error.errors())
    return list(faults)
