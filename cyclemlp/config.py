"""Configs of components: classes that declare, describe and check their values, and the tree of them that a file fills.

Each component has its `Config` beside it, with one `Field` a value: type, bounds, default and description are written
once. Errors, the recipe's reference page and help texts are made from these.
"""

from __future__ import annotations

import difflib
import textwrap
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from cyclemlp.errors import ConfigError
from cyclemlp.text import printable, shortened, shown
from cyclemlp.yaml_files import Lines, parse_yaml

__all__ = [
    "MAX_COUNT",
    "Config",
    "Expected",
    "Field",
    "Names",
    "Pair",
    "Share",
    "Text",
    "assigned",
    "build",
    "commented_yaml",
    "describe",
    "flatten",
    "parse_assignments",
    "plain_values",
    "rising",
]

#: No run wants more: beyond it a number is a slip, and would take memory or time without end.
MAX_COUNT = 1_000_000
#: Characters of a name or path.
MAX_TEXT = 4096
TEXT = f"text of at most {MAX_TEXT} characters, without 0 bytes"

C = TypeVar("C", bound="Config")


class Config(BaseModel):
    """Base of a component's config: unknown keys and other types are errors, and nothing changes once it is built."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
        protected_namespaces=(),
        arbitrary_types_allowed=True,
    )


class Expected:
    """What a field takes, in words, where its type and bounds do not say it."""

    def __init__(self, words: str) -> None:
        self.words = words


def _checked_text(text: str) -> str:
    if "\0" in text:
        raise ValueError
    return text


def _number_as_text(value: Any) -> Any:
    return str(value) if type(value) is int and value.bit_length() < 64 else value  # a folder named 2012


Text = Annotated[
    str,
    BeforeValidator(_number_as_text),
    Field(max_length=MAX_TEXT),
    AfterValidator(_checked_text),
    Expected(TEXT),
]
"""A name or path."""

Names = Annotated[
    dict[str, Any],
    BeforeValidator(lambda value: {} if value is None else value),
    Expected("a mapping of names to values"),
]
"""Values whose keys something else judges."""

Share = Annotated[float, Field(ge=0, le=1)]
"""A share or probability, from 0 to 1."""


Pair = Annotated[tuple[float, float], Field(strict=False)]
"""Two numbers; YAML has them as a list."""


def rising(low: float, high: float, *, above: bool = False) -> AfterValidator:
    """Of a pair: its numbers rise, from `low` to `high`; with `above`, `low` itself is none of them."""

    def check(pair: tuple[float, float]) -> tuple[float, float]:
        if not (low < pair[0] if above else low <= pair[0]) or not pair[0] <= pair[1] <= high:
            raise ValueError
        return pair

    return AfterValidator(check)


def build(cls: type[C], values: Any, *, where: str, lines: Lines | None = None) -> C:
    """A config from plain values.

    Args:
        cls: the config's class.
        values: as a YAML file holds them; what is left out has its default.
        where: named in messages, such as the file's path.
        lines: of the keys in that file, from `read_yaml_with_lines`.

    Raises:
        ConfigError: an unknown key (the nearest known one is named), or a value of the wrong type or range.
    """
    try:
        return cls.model_validate(values)
    except ValidationError as error:
        message, place = _first_error(cls, error, values, lines)
        raise ConfigError(f"{where}{place}: {message}") from None


def describe(field: FieldInfo) -> str:
    """What a field takes, in words: "a number above 0, or null"; nothing where it takes any text."""
    words = _words(field.annotation, field.metadata)
    return "" if words.startswith(("a value", TEXT)) else words


def commented_yaml(config: Config, indent: str = "") -> str:
    """A config as YAML, with a comment on each value: what it is, and what it takes."""
    lines = []
    for name, field in type(config).model_fields.items():
        value = getattr(config, name)
        if isinstance(value, Config):
            lines.append(f"{indent}{name}:\n{commented_yaml(value, indent + '  ')}")
            continue
        takes = describe(field)
        comment = f"{field.description}{f' ({takes})' if takes else ''}"
        lines += textwrap.wrap(comment, 110, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ")
        plain = plain_values(value)
        inline = isinstance(plain, list | dict)
        text = yaml.safe_dump(
            plain if inline else {name: plain}, allow_unicode=True, default_flow_style=inline, width=1000
        ).strip()
        lines.append(indent + (f"{name}: {text}" if inline else text))
    return "\n".join(lines)


def plain_values(value: Any) -> Any:
    """Lists, mappings and scalars of a config's values, as YAML holds them."""
    if isinstance(value, Mapping):
        return {key: plain_values(one) for key, one in value.items()}
    return [plain_values(one) for one in value] if isinstance(value, list | tuple) else value


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mapping → dotted key to value."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        nested = isinstance(value, Mapping) and value
        flat |= flatten(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": value}
    return flat


def parse_assignments(texts: Sequence[str], *, option: str = "--set") -> dict[str, Any]:
    """`["optimizer.lr=3e-4", …]` → dotted key to value, values read as YAML.

    Args:
        option: named in messages.

    Raises:
        ConfigError: no `=`, or the value is not YAML.
    """
    assignments = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            example = "section.key=value, such as optimizer.lr=3e-4" if option == "--set" else "key=value"
            raise ConfigError(f"{option} {shown(text)}: write {example}")
        assignments[key.strip()] = parse_yaml(value, f"{option} {shown(text)}: the value")
    return assignments


def assigned(cls: type[C], values: dict[str, Any], assignments: Mapping[str, Any], *, where: str) -> C:
    """A config of `values` with some of them replaced.

    Args:
        values: nested plain values; changed.
        assignments: dotted key (`optimizer.lr`) to value.
        where: named in messages.

    Raises:
        ConfigError: as `build`; a key without its section.
    """
    for dotted, value in assignments.items():
        *sections, last = dotted.split(".")
        section = values
        for i, name in enumerate(sections):
            if not isinstance(section.get(name), dict):
                known = [key for key, found in section.items() if isinstance(found, dict)]
                raise ConfigError(f"{where}: {unknown_key('.'.join(sections[: i + 1]), known)}")
            section = section[name]
        if not sections:
            known = [key for key in flatten(values) if key.endswith(f".{last}")]
            example = known[0] if known else "section.key"
            raise ConfigError(f"{where}: {shown(dotted)} needs its section: {example}=…")
        section[last] = value
    return build(cls, values, where=where)


def unknown_key(dotted: str, known: Sequence[str]) -> str:
    """The message on a key that there is not: its nearest, and all that there are."""
    near = difflib.get_close_matches(shortened(dotted.rpartition(".")[2]), known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}? " if near else ""
    name = printable(shortened(dotted), lines=False)
    return f"unknown key {name}; {hint}The possible ones are {', '.join(known)}"


def _first_error(
    cls: type[Config], error: ValidationError, values: Any, lines: Lines | None
) -> tuple[ConfigError, str]:
    """The first error, and its line as `:12` where it is known."""
    first = error.errors(include_url=False, include_input=False)[0]
    path, owner, field = _locate(cls, first["loc"])
    key = ".".join(path)
    if first["type"] == "extra_forbidden":
        path = (*path, str(first["loc"][len(path)]))
        text = unknown_key(".".join(path), list(owner.model_fields))
    elif field is None and first["type"] == "value_error":  # of several values together
        text = str(first["ctx"]["error"])
    else:
        value = values
        for name in path:
            value = value[name]
        reason = str(first.get("ctx", {}).get("error", "")) if first["type"] == "value_error" else ""
        expected = (
            "a mapping of keys to values" if field is None else _words(field.annotation, field.metadata)
        )
        text = reason or f"{key or 'the whole'} is {shown(value)}; expected {expected}"
    return ConfigError(text), "" if lines is None else lines.place(path)


def _locate(
    cls: type[Config], loc: Sequence[str | int]
) -> tuple[tuple[str, ...], type[Config], FieldInfo | None]:
    """The keys down to where an error is, the class that holds the last, and the field if it is no section."""
    path: list[str] = []
    for part in loc:
        found = cls.model_fields.get(part) if isinstance(part, str) else None
        if found is None:
            break
        path.append(str(part))
        if not (isinstance(found.annotation, type) and issubclass(found.annotation, Config)):
            return tuple(path), cls, found
        cls = found.annotation
    return tuple(path), cls, None


def _words(annotation: Any, metadata: Sequence[Any]) -> str:
    for note in metadata:
        if isinstance(note, Expected):
            return note.words
    origin, choices = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _words(choices[0], [*_flat(choices[1:]), *metadata])
    if origin in (Union, types.UnionType):
        (inner,) = (choice for choice in choices if choice is not type(None))
        return f"{_words(inner, metadata)}, or null"
    if origin is Literal:
        return f"one of: {', '.join(map(str, choices))}"
    if annotation is bool:
        return "true or false"
    kind = {int: "a whole number", float: "a number"}.get(annotation, "a value")
    bounds = {
        name: getattr(note, name)
        for note in _flat(metadata)
        for name in ("gt", "ge", "lt", "le")
        if getattr(note, name, None) is not None
    }
    least, most = bounds.get("ge", bounds.get("gt")), bounds.get("le", bounds.get("lt"))
    if least is not None and most is not None:
        if annotation is int:
            return f"{kind} from {least} to {most}"
        return (
            f"{kind} in {'[' if 'ge' in bounds else '('}{least:g}, {most:g}{']' if 'le' in bounds else ')'}"
        )
    if least is None:
        return kind
    return f"{kind} above {least:g}" if "gt" in bounds else f"{kind} of at least {least:g}"


def _flat(notes: Sequence[Any]) -> Iterator[Any]:
    for note in notes:
        yield from note.metadata if isinstance(note, FieldInfo) else [note]
