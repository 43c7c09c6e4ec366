"""Every value of metadata, in weight files and in exports, is typed and bounded, and named where it is wrong."""

from __future__ import annotations

import json

import pytest

import cyclemlp
from cyclemlp.deploy.metadata import ExportError, ExportMetadata, Output
from cyclemlp.errors import ConfigError, WeightsError
from cyclemlp.metadata import NotOursError, read_model_metadata
from cyclemlp.models import save_model
from cyclemlp.weights import read_weights, write_weights

WEIGHTS = {
    "format": 1,
    "layout": "paddle",
    "model": "cyclemlp_nano",
    "overrides": {"num_classes": 2},
    "preprocessing": {"input_size": 32, "crop_pct": 0.9, "mean": [0.5], "std": [0.5]},
    "classes": ["cat", "dog"],
    "epoch": 3,
    "figures": {"train_loss": 0.5, "val_top1": 50.0},
}
EXPORT = json.loads(
    ExportMetadata(
        "cyclemlp_nano", classes=["cat", "dog"], num_classes=2, outputs=[Output("logits", "logits")]
    ).to_json()
)


def put(values, path, value):
    """A copy of nested values with one of them replaced."""
    copy = json.loads(json.dumps(values))
    inner = copy
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return copy


def places(values, path=()):
    """Every value in nested dicts and lists, as the keys that lead to it."""
    entries = values.items() if isinstance(values, dict) else enumerate(values)
    for key, value in entries:
        yield (*path, key)
        if isinstance(value, dict | list):
            yield from places(value, (*path, key))


STRANGE = [{"a": 1}, [[1]], "x\x1b[31m", -1, 1e300, float("nan"), True, None]


def wrong(values):
    """(place, value) that cannot be right there: of another type, or out of every range."""
    for path in places(values):
        old = values
        for key in path:
            old = old[key]
        if path in {("extra",), ("overrides",)}:
            strange = [value for value in STRANGE if not isinstance(value, dict)]
        elif isinstance(old, float):
            strange = STRANGE[:3] + STRANGE[5:7]
        elif isinstance(old, str):
            strange = [value for value in STRANGE if not isinstance(value, str)]
        else:
            strange = [value for value in STRANGE if value is not None and type(value) is not type(old)]
        for value in strange:
            yield path, value


def test_a_wrong_value_of_a_weight_file_is_named():
    tried = 0
    for path, value in wrong(WEIGHTS):
        if path[0] == "overrides" and len(path) > 1:
            continue  # judged where the model is made, see below
        with pytest.raises(ConfigError) as error:
            read_model_metadata(json.dumps(put(WEIGHTS, path, value)))
        told = str(error.value)
        assert str(path[0]) in told or str(path[-1]) in told, (path, value, told)
        assert "\x1b" not in told
        tried += 1
    assert tried > 80


def test_a_wrong_value_of_an_export_is_named():
    optional = {("classes",), ("num_classes",), ("outputs", 0, "stride")}
    tried = 0
    for path, value in wrong(EXPORT):
        if value is None and path in optional:
            continue
        with pytest.raises(ExportError, match=r"a\.onnx has (damaged )?metadata") as error:
            ExportMetadata.from_json(json.dumps(put(EXPORT, path, value)), "a.onnx")
        told = str(error.value)
        assert str(path[0]) in told or str(path[-1]) in told, (path, value, told)
        tried += 1
    assert tried > 100


def test_what_is_right_is_kept_as_it_is():
    more = {**WEIGHTS, "mine": {"a": [1, None]}}
    assert read_model_metadata(json.dumps(more)) == more
    read = ExportMetadata.from_json(json.dumps(EXPORT), "a.onnx")
    assert json.loads(read.to_json()) == EXPORT


@pytest.mark.parametrize("text", ["", "[]", "{", "{}", "[" * 100_000, '{"layout": ' + "1" * 5000 + "}", "7"])
def test_other_texts_are_not_ours(text):
    with pytest.raises(NotOursError):
        read_model_metadata(text)


def test_classes_and_their_number_agree():
    with pytest.raises(ExportError, match="classes names 2 classes, and num_classes is 3"):
        ExportMetadata.from_json(json.dumps({**EXPORT, "num_classes": 3}), "a.onnx")
    with pytest.raises(ExportError, match=r"unknown keys .*'new'"):
        ExportMetadata.from_json(json.dumps({**EXPORT, "new": 3}), "a.onnx")
    with pytest.raises(ExportError, match="no outputs"):
        ExportMetadata.from_json(json.dumps({k: v for k, v in EXPORT.items() if k != "outputs"}), "a.onnx")


@pytest.mark.parametrize(
    "overrides",
    [
        {"pretrained": True},
        {"pretrained": "http://127.0.0.1:9/x.pth"},
        {"name": "cyclemlp_b5"},
        {"num_classes": True},
        {"num_classes": 1e300},
        {"depths": 3},
        {"step_size": {"a": 1}},
        {"embed_dims": [[4], 4, 4, 4]},
    ],
)
def test_overrides_are_of_the_architecture_and_start_nothing(tmp_path, overrides):
    model = cyclemlp.create_model("cyclemlp_nano", num_classes=2)
    path = tmp_path / "m.safetensors"
    save_model(model, path)
    file = read_weights(path)
    write_weights(path, file.tensors, metadata={**file.metadata, "overrides": overrides})
    with pytest.raises(
        WeightsError, match=f"metadata that describe no model: overrides: .*{next(iter(overrides))}"
    ):
        cyclemlp.load_model(path)


def test_damaged_metadata_beside_a_file_are_no_other_file(tmp_path):
    model = cyclemlp.create_model("cyclemlp_nano", num_classes=2)
    save_model(model, tmp_path / "m.pdparams")
    beside = tmp_path / "m.json"
    beside.write_text(json.dumps({**json.loads(beside.read_text()), "classes": 7}))
    with pytest.raises(
        WeightsError, match=r"damaged metadata in m\.json beside it: classes is 7; expected a list"
    ):
        read_weights(tmp_path / "m.pdparams")
    beside.write_text('{"program": {}}')  # of Paddle's own
    assert read_weights(tmp_path / "m.pdparams").metadata == {}
