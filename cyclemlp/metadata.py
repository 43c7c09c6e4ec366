"""What weight files and exported models say of their model: every value typed and bounded, in one place.

A metadata text is as little trusted as the rest of the file that it came with. `read_model_metadata` and
`read_fields` turn it into plain values or name the key that is wrong; they read no file and import no network.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

from cyclemlp.errors import ConfigError
from cyclemlp.preprocessing import Preprocessing
from cyclemlp.text import counted, shown

#: Of the metadata of weight files and of exported models.
FORMAT = 1
LAYOUTS = ("authors", "paddle")

MAX_TEXT = 8 * 2**20
MAX_CLASSES = 100_000
MAX_NAME = 1000
MAX_EPOCH = 10**9
MAX_SIDE = 65_536
MAX_KEYS = 64

#: What a classifier is for: one class an image, or any number of labels.
CLASSIFICATION, MULTI_LABEL = "classification", "multi-label classification"
CLASSIFICATION_TASKS = (CLASSIFICATION, MULTI_LABEL)

#: A function from a value to the value that is kept; raises ConfigError with what it expected.
Check = Callable[[Any], Any]


class NotOursError(ConfigError):
    """A text that is no metadata of this package at all."""


def _expected(what: str, good: Callable[[Any], bool]) -> Check:
    def check(value: Any) -> Any:
        if not good(value):
            raise ConfigError(f"is {shown(value)}; expected {what}")
        return value

    return check


def _whole(least: int, most: int) -> Check:
    return _expected(
        f"a whole number from {least} to {most}",
        lambda v: isinstance(v, int) and not isinstance(v, bool) and least <= v <= most,
    )


def _optional(check: Check) -> Check:
    return lambda value: None if value is None else check(value)


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= MAX_NAME


def _is_figure(value: Any) -> bool:
    if value is None:
        return True
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf


def _names(value: Any) -> list[str]:
    if not isinstance(value, list) or len(value) > MAX_CLASSES:
        raise ConfigError(f"is {shown(value)}; expected a list of at most {MAX_CLASSES:,} names")
    for index, name in enumerate(value):
        if not _is_name(name):
            raise ConfigError(f"[{index}] is {shown(name)}; expected a name of 1 to {MAX_NAME} characters")
    return value


def _shares(value: Any) -> list[float]:
    if not isinstance(value, list) or len(value) > MAX_CLASSES:
        raise ConfigError(f"is {shown(value)}; expected a list of at most {MAX_CLASSES:,} numbers")
    for index, share in enumerate(value):
        if not _is_figure(share) or share is None or share > 1:
            raise ConfigError(f"[{index}] is {shown(share)}; expected a number from 0 to 1")
    return [float(share) for share in value]


def _check_preprocessing(value: Any) -> Any:
    Preprocessing.from_dict(value)
    return value


def _figures(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict) or len(value) > MAX_KEYS:
        raise ConfigError(f"is {shown(value)}; expected a mapping of at most {MAX_KEYS} names to figures")
    for key, figure in value.items():
        if not _is_figure(figure):
            raise ConfigError(f".{shown(key)} is {shown(figure)}; expected a finite number from 0, or null")
    return value


NAME = _expected(f"a name of 1 to {MAX_NAME} characters", _is_name)
TEXT = _expected(
    f"a text of at most {MAX_NAME} characters", lambda v: isinstance(v, str) and len(v) <= MAX_NAME
)
NAMES = _optional(_names)
THRESHOLDS = _optional(_shares)
PREPROCESSING: Check = _check_preprocessing
COUNT = _optional(_whole(1, MAX_CLASSES))
SIDE = _whole(1, MAX_SIDE)
STRIDE = _optional(SIDE)
MAPPING = _expected(
    f"a mapping of at most {MAX_KEYS} keys", lambda v: isinstance(v, dict) and len(v) <= MAX_KEYS
)

#: Of a weight file. What else stands there is kept as it is: JSON values that nobody here reads.
MODEL_FIELDS: Mapping[str, Check] = {
    "format": _whole(1, MAX_EPOCH),
    "layout": _expected(f"one of {', '.join(LAYOUTS)}", lambda v: isinstance(v, str) and v in LAYOUTS),
    "model": NAME,
    "overrides": MAPPING,
    "preprocessing": PREPROCESSING,
    "classes": NAMES,
    "task": _expected(
        f"one of {', '.join(CLASSIFICATION_TASKS)}",
        lambda v: isinstance(v, str) and v in CLASSIFICATION_TASKS,
    ),
    "thresholds": THRESHOLDS,
    "epoch": _optional(_whole(0, MAX_EPOCH)),
    "figures": _optional(_figures),
}


def read_json(text: str) -> dict[str, Any]:
    """A JSON object.

    Raises:
        NotOursError: the text is something else, or longer or deeper than any metadata are.
    """
    if len(text) > MAX_TEXT:
        raise NotOursError(f"has {counted(len(text), 'character')}; metadata have at most {MAX_TEXT:,}")
    try:
        values = json.loads(text)
    except RecursionError:
        raise NotOursError("is nested too deep") from None
    except ValueError as error:
        raise NotOursError(f"is no JSON ({error})") from None
    if not isinstance(values, dict):
        raise NotOursError(f"is {shown(values)}; expected an object")
    return values


def read_fields(values: Mapping[str, Any], fields: Mapping[str, Check]) -> dict[str, Any]:
    """The values, each as its check gives it; keys without a check stay as they are.

    Raises:
        ConfigError: a value is of another type or out of range; the message begins with its key.
    """
    read = dict(values)
    for key, check in fields.items():
        if key in read:
            try:
                read[key] = check(read[key])
            except ConfigError as error:
                text = str(error)
                raise ConfigError(f"{key}{'' if text.startswith(('.', '[')) else ' '}{text}") from None
    return read


def read_model_metadata(text: str) -> dict[str, Any]:
    """The metadata of a weight file: the values of `MODEL_FIELDS`, and whatever else stands there.

    Raises:
        NotOursError: the text names no layout, so it is not ours.
        ConfigError: a value is of another type or out of range; the message begins with its key.
    """
    values = read_json(text)
    if "layout" not in values:
        raise NotOursError("names no layout")
    return read_fields(values, MODEL_FIELDS)
