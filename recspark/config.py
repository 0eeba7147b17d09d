"""A deployment's YAML, plus overrides, becomes frozen, typed settings; every mistake is reported at once with its path.

Each part of recspark keeps its own `Settings` class beside the code that uses it; `recspark.pipeline.Deployment` puts them
together. Settings can be made from Python just as well: `CandidatesConfig(top_k=20)`.
"""

import difflib
import os
import re
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from recspark.errors import UserError

# Of every generator that is given one, with room for the numbers that some add to it.
Seed = Annotated[int, Field(ge=0, lt=2**31)]
ENV_PATTERN = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")
T = TypeVar("T", bound="Settings")


class Settings(BaseModel):
    """Base of all settings: frozen, and a key that is not a field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class ConfigError(UserError):
    """All mistakes of one configuration, one a line."""

    def __init__(self, source: str, mistakes: list[str]):
        self.mistakes = mistakes
        count = "1 mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
        super().__init__("\n".join([f"{source}: {count} in the configuration", *(f"  {m}" for m in mistakes)]))


def load(path: str | Path, model: type[T], overrides: list[str] | None = None) -> T:
    """Read a YAML file, apply `a.b=value` overrides, put in `${ENV}` values, and validate.

    Raises ConfigError with every mistake at once.
    """
    return parse(read_yaml(path), model, overrides or [], source=str(path))


def parse(raw: dict[str, Any], model: type[T], overrides: list[str], source: str = "configuration") -> T:
    """As `load`, from a dictionary."""
    mistakes: list[str] = []
    for override in overrides:
        apply_override(raw, override, mistakes)
    filled = substitute_environment(raw, "", mistakes)
    try:
        settings = model.model_validate(filled)
    except ValidationError as error:
        mistakes += [line for e in error.errors() for line in describe(e, model).splitlines()]
    if mistakes:
        raise ConfigError(source, mistakes)
    return settings


def dump(settings: Settings, path: str | Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """All settings, defaults included, as they go into manifests.

    A value that the file or an override takes from the environment stands as it was written, `${NAME}`: it may be a secret.
    """
    raw = read_yaml(path)
    for override in overrides:
        apply_override(raw, override, [])
    return mask(settings.model_dump(mode="json"), raw)


def mask(value: Any, raw: Any) -> Any:
    """`value` with every string that `raw` took from the environment replaced by the raw one."""
    if isinstance(value, dict) and isinstance(raw, dict):
        return {k: mask(v, raw.get(k)) for k, v in value.items()}
    if isinstance(value, list) and isinstance(raw, list) and len(value) == len(raw):
        return [mask(v, r) for v, r in zip(value, raw, strict=True)]
    return raw if isinstance(raw, str) and ENV_PATTERN.search(raw) else value


def read_yaml(path: str | Path) -> dict[str, Any]:
    """The top-level mapping of a YAML file."""
    try:
        raw = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            f"configuration {path} does not exist; give one with --config, such as conf/demo.yaml"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"configuration {path} cannot be read: {error}") from None
    except yaml.YAMLError as error:
        raise UserError(f"configuration {path} is not valid YAML: {error}") from None
    if not isinstance(raw, dict):
        raise UserError(f"configuration {path} should be a mapping of sections; found {type(raw).__name__}")
    return raw


def apply_override(raw: dict[str, Any], override: str, mistakes: list[str]) -> None:
    """Set `a.b=value` in place; the value is read as YAML."""
    key, equals, value = override.partition("=")
    if not equals or not key:
        mistakes.append(f"--set {override}: should read path.to.key=value")
        return
    *parents, last = key.split(".")
    node = raw
    for name in parents:
        if node.get(name) is None:  # not there, or a heading with nothing below it
            node[name] = {}
        child = node[name]
        if not isinstance(child, dict):
            mistakes.append(f"--set {override}: {name} is a value, not a section")
            return
        node = child
    try:
        node[last] = yaml.safe_load(value)
    except yaml.YAMLError:
        mistakes.append(f"--set {override}: {value!r} is not valid YAML")


def substitute_environment(node: Any, path: str, mistakes: list[str]) -> Any:
    """Replace `${NAME}` and `${NAME:-default}` in every string by the environment's value."""
    if isinstance(node, dict):
        return {k: substitute_environment(v, f"{path}.{k}".lstrip("."), mistakes) for k, v in node.items()}
    if isinstance(node, list):
        return [substitute_environment(v, f"{path}[{i}]", mistakes) for i, v in enumerate(node)]
    if not isinstance(node, str):
        return node

    def value(match: re.Match[str]) -> str:
        found = os.environ.get(match[1], match[2])
        if found is None:
            mistakes.append(
                f"{path}: environment variable {match[1]} is not set; set it, or write ${{{match[1]}:-default}}"
            )
        return found or ""

    return ENV_PATTERN.sub(value, node)


def describe(error: Any, model: type[BaseModel]) -> str:
    """One line for one pydantic error: path, what was found, and the nearest valid key for an unknown one."""
    path = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        known = sorted(keys_at(model, error["loc"][:-1]))
        near = difflib.get_close_matches(str(error["loc"][-1]), known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"valid keys: {', '.join(known)}"
        return f"{path}: unknown key; {hint}"
    if error["type"] == "missing":
        return f"{path}: is required and missing"
    message = error["msg"].removeprefix("Value error, ")
    found = error.get("input")
    shown = "" if isinstance(found, dict | list | BaseModel) else f"; found {found!r}"
    # Of sections that do not go together the message names both.
    return f"{path}: {message}{shown}" if path else message


def keys_at(model: type[BaseModel], loc: tuple[Any, ...]) -> set[str]:
    """Field names of the settings class that sits at a pydantic error location (union tags are part of a location)."""
    candidates: list[type[BaseModel]] = [model]
    for part in loc:
        inner: list[type[BaseModel]] = []
        for candidate in candidates:
            if isinstance(part, str) and part in candidate.model_fields:
                inner += classes_in(candidate.model_fields[part].annotation)
            elif isinstance(part, str) and any(part == tag for tag in tags_of(candidate)):
                inner.append(candidate)
        candidates = inner or candidates
    return {name for c in candidates for name in c.model_fields}


def classes_in(annotation: Any) -> list[type[BaseModel]]:
    """The settings classes named anywhere in a type annotation."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if (
        typing.get_origin(annotation) is typing.Annotated
        or isinstance(annotation, types.UnionType)
        or typing.get_args(annotation)
    ):
        return [c for inner in typing.get_args(annotation) for c in classes_in(inner)]
    return []


def tags_of(model: type[BaseModel]) -> list[Any]:
    """The values a settings class's `kind` field allows."""
    kind = model.model_fields.get("kind")
    return list(typing.get_args(kind.annotation)) if kind else []
