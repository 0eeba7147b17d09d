"""Write docs/settings.md, every setting of a deployment, from its classes: python tools/make_settings_doc.py"""

import json
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import annotated_types as bounds
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from recspark.config import classes_in, tags_of
from recspark.pipeline import Deployment

HEAD = """# The settings

Every setting of a deployment's YAML, written from the classes in `recspark/` by `python tools/make_settings_doc.py`; a test holds the two
together. `--set finetune.epochs=3` sets one for a run. A key that is not here is an error, which names the nearest that is. Where a setting has
a `kind`, each kind has settings of its own: `finetune.adaptation: {kind: lora, rank: 16}`.
"""
WORDS = {int: "whole number", float: "number", str: "text", bool: "true, false", Any: "any"}
SEVERAL = {"[]": "a list of sections", ".NAME": "sections by name"}
TABLE = "\n| setting | values | default | |\n|---|---|---|---|\n"


class Page:
    """Sections one after another; a class that is described already is named by its place."""

    def __init__(self) -> None:
        self.places: dict[type[BaseModel], str] = {}

    def document(self) -> str:
        sections = {name: field for name, field in Deployment.model_fields.items() if classes_in(field.annotation)}
        single = [(name, field) for name, field in Deployment.model_fields.items() if name not in sections]
        parts = [HEAD, TABLE, *(row(name, field) for name, field in single)]
        for name, field in sections.items():
            (model,) = classes_in(field.annotation)
            absent = f" {sentence(field.description)}" if field.description else ""
            parts += [f"\n## {name}\n\n{summary(model)}{absent}\n", *self.tables(model, name)]
        return "".join(parts)

    def tables(self, model: type[BaseModel], path: str) -> Iterator[str]:
        """The table of a class's settings, and after it those of the kinds that a setting of it may be of."""
        rows, kinds = self.rows(model, path)
        if rows:
            yield TABLE
            yield from rows
        for place, choices in kinds:
            for choice in choices:
                (kind,) = tags_of(choice)
                yield f"\n**`{place}: {{kind: {kind}}}`** {summary(choice)}\n"
                yield from self.tables(choice, place)

    def rows(self, model: type[BaseModel], path: str) -> tuple[list[str], list[tuple[str, list[type[BaseModel]]]]]:
        rows, kinds = [], []
        for name, field in model.model_fields.items():
            place, inner = f"{path}.{name}", classes_in(field.annotation)
            if name == "kind":
                continue
            if not inner:
                rows.append(row(place, field))
                continue
            origin = typing.get_origin(field.annotation)
            several = "[]" if origin is tuple else ".NAME" if origin is dict else ""
            if (told := self.places.get(inner[0])) not in (None, f"{place}{several}"):
                rows.append(row(place, field, f"as `{told}`", "as there"))
                continue
            self.places |= dict.fromkeys(inner, f"{place}{several}")
            if all(map(tags_of, inner)):
                rows.append(row(place, field, "kind: " + ", ".join(f"`{kind}`" for c in inner for kind in tags_of(c))))
                kinds.append((f"{place}{several}", inner))
            else:
                if field.is_required() or field.default is None or several:
                    rows.append(row(place, field, SEVERAL.get(several, "a section"), summary(inner[0])))
                more, further = self.rows(inner[0], f"{place}{several}")
                rows += more
                kinds += further
        return rows, kinds


def row(path: str, field: FieldInfo, values: str | None = None, meaning: str | None = None) -> str:
    cells = (f"`{path}`", values or values_of(field), default_of(field), field.description or meaning or "each below")
    return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |\n"


def values_of(field: FieldInfo) -> str:
    """What may stand there, in words."""
    low = [f"{sign} {value:,}" for kind, attribute, sign in LOW for value in limits(field, kind, attribute)]
    high = [f"{sign} {value:,}" for kind, attribute, sign in HIGH for value in limits(field, kind, attribute)]
    return " ".join((words(field.annotation), ", ".join(low + high))).strip()


LOW = ((bounds.Ge, "ge", "≥"), (bounds.Gt, "gt", ">"))
HIGH = ((bounds.Le, "le", "≤"), (bounds.Lt, "lt", "<"))


def limits(field: FieldInfo, kind: type, attribute: str) -> list[float]:
    return [getattr(limit, attribute) for limit in field.metadata if isinstance(limit, kind)]


def words(annotation: Any) -> str:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return words(arguments[0])
    if origin is typing.Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(words(a) for a in arguments if a is not type(None)))
    if origin is tuple and arguments[-1] is not Ellipsis:
        return "[" + ", ".join(map(words, arguments)) + "]"
    if origin in (tuple, list):
        return f"list of {words(arguments[0])}"
    if origin is dict:
        return f"{words(arguments[0])}: {words(arguments[1])}, …"
    return WORDS.get(annotation, getattr(annotation, "__name__", str(annotation)))


def default_of(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    return shown(field.get_default(call_default_factory=True))


def shown(value: Any) -> str:
    if isinstance(value, BaseModel):
        return f"`{value.kind}`" if hasattr(value, "kind") else ""
    if isinstance(value, tuple) and any(isinstance(one, BaseModel) for one in value):
        return ", ".join(map(shown, value))
    return f"`{json.dumps(value, ensure_ascii=False)}`"


def summary(model: type[BaseModel]) -> str:
    """The first paragraph of what the class says of itself, and the formula that it leads to."""
    first, *more = (model.__doc__ or "").strip().split("\n\n")
    return " ".join(" ".join([first, *(more[:1] if first.endswith(":") else [])]).split())


def sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."


if __name__ == "__main__":
    (Path(__file__).parent.parent / "docs" / "settings.md").write_text(Page().document(), encoding="utf-8")
