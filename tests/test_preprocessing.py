"""Preprocessing: every value typed, bounded and named; sizes that are not square."""

import json
import math

import numpy as np
import pytest

from cyclemlp.errors import ConfigError
from cyclemlp.preprocessing import Preprocessing, parse_size

WRONG = (
    None,
    True,
    -1,
    0,
    1e300,
    10**400,
    math.nan,
    math.inf,
    "x\x1b[31m",
    {"a": 1},
    [[1]],
    [1, 2, 3, 4],
    "",
    [],
)


@pytest.mark.parametrize("name", Preprocessing().to_dict())
@pytest.mark.parametrize("value", WRONG, ids=lambda value: repr(value)[:12])
def test_wrong_values_are_named(name, value):
    if name in ("mean", "std") and value == [1, 2, 3, 4]:
        value = [1, 2, "x"]
    with pytest.raises(ConfigError, match=name) as raised:
        Preprocessing.from_dict({name: value})
    assert len(str(raised.value)) < 300
    assert str(raised.value).isprintable()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ("abc", "preprocessing is 'abc'; expected a mapping"),
        ([1], "expected a mapping"),
        ({"sise": 1}, r"unknown preprocessing keys \['sise'\]"),
        ({5: 1}, "unknown preprocessing keys"),
        ({"mean": [0.5]}, "mean has 1 and std 3 values"),
        ({"std": [1, 1, 0]}, "std is .*above 0"),
        ({"mean": "abc", "std": "abc"}, "mean is 'abc'; expected a list"),
        ({"crop_pct": 1e-9}, "crop_pct is 1e-09; with input_size 224×224 images would be resized"),
        ({"input_size": [32, 0]}, "input_size"),
        ({"input_size": 1.5}, "input_size is 1.5"),
        ({"exif": "rotate"}, "exif is 'rotate'; use one of ignore, apply"),
    ],
)
def test_what_is_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        Preprocessing.from_dict(values)


def test_sizes_that_are_not_square():
    p = Preprocessing(input_size=(192, 256), crop_pct=0.8)
    assert (p.input_height, p.input_width, p.resize_size) == (192, 256, (240, 320))
    assert (p.size_text, p.resize_text, p.crop_text) == ("192×256", "at least 240×320", "centre 192×256")
    read = json.loads(json.dumps(p.to_dict()))
    assert read["input_size"] == [192, 256]
    assert Preprocessing.from_dict(read) == p
    square = Preprocessing(input_size=(64, 64))
    assert (square.input_size, square.resize_size, square.to_dict()["input_size"]) == (64, 73, 64)
    assert Preprocessing(input_size=np.int64(32)) == Preprocessing(input_size=32)
    # What versions before wrote has neither a pair nor `exif`.
    old = {k: v for k, v in Preprocessing().to_dict().items() if k != "exif"}
    assert Preprocessing.from_dict(old) == Preprocessing()


def test_sizes_as_they_are_typed():
    assert [parse_size(text) for text in ("224", " 32x64 ", "32×64", "64X64")] == [
        224,
        (32, 64),
        (32, 64),
        64,
    ]
    for text in ("", "x", "32x", "0", "32x0", "-5", "1e3", "32x64x3", "99999", "9" * 400):
        with pytest.raises(ConfigError, match="is no size; give pixels from 1 to 8192"):
            parse_size(text)
