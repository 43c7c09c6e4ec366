"""Writing: what other programs read is what was given, bit for bit; a file is whole or not there."""

import json
import os
import pickle
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import paddle
import pytest
from golden import param
from safetensors import safe_open
from safetensors.numpy import load_file
from weights_fixtures import content, parameters, published_shapes, rebuild

from cyclemlp.errors import WeightsError
from cyclemlp.weights import read_weights, write_weights
from cyclemlp.weights.layout import offset_buffer

METADATA = {"format": 1, "model": "cyclemlp_nano", "overrides": {"num_classes": 2}, "classes": ["猫", "dog"]}
TENSORS = {"b.weight": np.arange(6, dtype="f4").reshape(2, 3), "b.bias": np.ones(3, "f4"), "a": np.float32(7)}


def assert_same(tensors, expected):
    assert list(tensors) == list(expected)
    for key, value in expected.items():
        assert tensors[key].dtype == np.asarray(value).dtype, key
        assert tensors[key].tobytes() == np.asarray(value).tobytes(), key
        assert tensors[key].shape == np.shape(value), key


@pytest.mark.parametrize(
    "variant", ["b1", *(pytest.param(name, marks=pytest.mark.heavy) for name in ("b2", "b3", "b4", "b5"))]
)
def test_round_trips_of_every_variant(variant, tmp_path):
    """Authors' safetensors → .pdparams → Paddle's safetensors → authors' safetensors: the same bytes as at first."""
    published = {}
    for name, shape in published_shapes(variant).items():
        if name.endswith(".offset"):
            published[name] = offset_buffer(shape[1] // 2, (1, 3) if "sfc_h" in name else (3, 1))
        else:  # one value of the formula, so that 300 MB are made in a moment, but every element distinct
            start = param(name, (1,), 0)
            published[name] = np.linspace(start, start + 1, int(np.prod(shape)), dtype="f4").reshape(shape)
    first, third, fourth = (tmp_path / f"{i}.safetensors" for i in (1, 3, 4))
    second = tmp_path / "2.pdparams"
    in_paddles = {n: v.T if v.ndim == 2 else v for n, v in published.items() if not n.endswith(".offset")}
    write_weights(first, in_paddles, layout="authors")
    stored = load_file(first)
    assert_same({name: stored[name] for name in published}, published)
    with first.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    assert list(header)[1:] == list(published)  # the order as published, behind __metadata__

    write_weights(second, read_weights(first).tensors)
    write_weights(third, read_weights(second).tensors)
    file = read_weights(third)
    assert_same(file.tensors, {name: np.ascontiguousarray(value) for name, value in in_paddles.items()})
    write_weights(fourth, file.tensors, layout="authors")
    assert first.read_bytes() == fourth.read_bytes()


def test_the_authors_own_file_comes_back(tmp_path):
    source = read_weights(rebuild("authors_release.pth", tmp_path))
    write_weights(tmp_path / "x.safetensors", source.tensors, layout="authors")
    stored = load_file(tmp_path / "x.safetensors")
    for name, value in parameters().items():
        assert stored[name].tobytes() == value.tobytes()
    # The file of Paddle-CycleMLP, by Python's own unpickler: its offset buffers are those that the authors' code made.
    seed = pickle.loads(content("seed.pdparams"))
    offsets = {name: value for name, value in seed.items() if name.endswith(".offset")}
    assert len(offsets) == 20
    for name, value in offsets.items():
        np.testing.assert_array_equal(stored[name], value)
    assert set(stored) == set(parameters()) | set(offsets)


def test_paddle_loads_what_is_written(tmp_path):
    layer = paddle.nn.Sequential(("b", paddle.nn.Linear(2, 3)))
    path = tmp_path / "x.pdparams"
    tensors = {name: TENSORS[name] for name in ("b.weight", "b.bias")}
    write_weights(path, tensors, metadata=METADATA)
    loaded = paddle.load(str(path))
    assert_same({name: value.numpy() for name, value in loaded.items()}, tensors)
    missing, unexpected = layer.set_state_dict(loaded)
    assert (missing, unexpected) == ([], [])
    np.testing.assert_array_equal(layer.b.weight.numpy(), TENSORS["b.weight"])


def test_pdparams_of_every_type(tmp_path):
    """Against Python's own unpickler, and as every NumPy can read it: NumPy 1 has no module numpy._core."""
    kinds = ["f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u1", "?"]
    tensors = {kind: np.array([[0, 1, 0], [1, 0, 1]], kind) for kind in kinds}
    tensors |= {
        "scalar": np.array(2.5, "f4"),
        "empty": np.zeros((0, 3), "f4"),
        "long": np.arange(70000, dtype="f4"),
    }
    tensors["transposed"] = np.arange(6, dtype="f4").reshape(2, 3).T
    tensors["big-endian"] = np.arange(3, dtype=">f4")
    tensors["größe"] = np.ones(1, "f4")
    path = tmp_path / "x.pdparams"
    write_weights(path, tensors)
    assert b"numpy._core" not in path.read_bytes()
    expected = {name: value.astype(value.dtype.newbyteorder("=")) for name, value in tensors.items()}
    assert_same(pickle.loads(path.read_bytes()), expected)
    assert_same(read_weights(path).tensors, expected)


@pytest.mark.parametrize("suffix", [".safetensors", ".pdparams"])
def test_metadata_come_back(suffix, tmp_path):
    path = tmp_path / f"x{suffix}"
    write_weights(path, TENSORS, metadata=METADATA)
    file = read_weights(path)
    assert file.metadata == METADATA
    assert_same(file.tensors, TENSORS)
    write_weights(path, TENSORS)  # without any: the old ones must not describe the new file
    assert read_weights(path).metadata == {}
    assert list(tmp_path.iterdir()) == [path]


def test_metadata_in_the_header_are_one_json_text(tmp_path):
    write_weights(tmp_path / "x.safetensors", TENSORS, metadata=METADATA)
    with safe_open(tmp_path / "x.safetensors", "np") as file:
        assert json.loads(file.metadata()["cyclemlp"]) == {"layout": "paddle", **METADATA}


def test_a_json_of_somebody_else_is_left_alone(tmp_path):
    """Paddle's jit.save writes `x.json` too."""
    (tmp_path / "x.json").write_text('{"base_code": {}, "program": {}}')
    with pytest.raises(WeightsError, match=r"belong in x\.json, which exists and is something else"):
        write_weights(tmp_path / "x.pdparams", TENSORS, metadata=METADATA)
    write_weights(tmp_path / "x.pdparams", TENSORS)
    assert read_weights(tmp_path / "x.pdparams").metadata == {}
    assert (tmp_path / "x.json").read_text() == '{"base_code": {}, "program": {}}'


def test_step_sizes_of_offset_buffers(tmp_path):
    """By the metadata, or as given, or as published."""
    layer = {"a.sfc_h.weight": np.ones((6, 6, 1, 1), "f4"), "a.sfc_w.weight": np.ones((6, 6, 1, 1), "f4")}
    path = tmp_path / "x.safetensors"
    for options, steps in (
        ({}, {"sfc_h": (1, 3), "sfc_w": (3, 1)}),
        ({"metadata": {"overrides": {"step_size": 5}}}, {"sfc_h": (1, 5), "sfc_w": (5, 1)}),
        ({"step_sizes": {"sfc_h": (2, 3), "sfc_w": (1, 1)}}, {"sfc_h": (2, 3), "sfc_w": (1, 1)}),
    ):
        write_weights(path, layer, layout="authors", **options)
        assert read_weights(path).step_sizes == steps


def test_what_cannot_be_written_is_told(tmp_path):
    for suffix in (".pth", "", ".npz"):
        with pytest.raises(WeightsError, match=r"are not written; use \.safetensors or \.pdparams"):
            write_weights(tmp_path / f"x{suffix}", TENSORS)
    with pytest.raises(WeightsError, match=r"a \.pdparams is always in Paddle's layout"):
        write_weights(tmp_path / "x.pdparams", TENSORS, layout="authors")
    with pytest.raises(WeightsError, match="unknown layout 'torch'"):
        write_weights(tmp_path / "x.pdparams", TENSORS, layout="torch")
    with pytest.raises(WeightsError, match="w is of type object; only numbers are written"):
        write_weights(tmp_path / "x.pdparams", {"w": np.array([None])})
    with pytest.raises(WeightsError, match="cannot be written: No such file"):
        write_weights(tmp_path / "no" / "x.pdparams", TENSORS)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", [".safetensors", ".pdparams"])
def test_an_interrupted_write_leaves_the_old_file(suffix, tmp_path, monkeypatch):
    def interrupted(_):
        raise KeyboardInterrupt

    path = tmp_path / f"x{suffix}"
    write_weights(path, TENSORS)
    before = path.read_bytes()
    monkeypatch.setattr(os, "fsync", interrupted)  # Ctrl-C before all is on the disk
    with pytest.raises(KeyboardInterrupt):
        write_weights(path, {"w": np.zeros(9, "f4")})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_leaves_the_old_file(tmp_path):
    """The limit of a file's size stands for the disk's."""
    path = tmp_path / "x.safetensors"
    write_weights(path, TENSORS)
    before = path.read_bytes()
    program = (
        "import resource, signal, sys, numpy\n"
        "from cyclemlp.weights import write_weights\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "write_weights(sys.argv[1], {'large': numpy.zeros(10**6, 'f4')})"
    )
    command = [sys.executable, "-c", program, path]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert done.stderr.splitlines()[-1].endswith(f"WeightsError: {path}: cannot be written: File too large")
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_the_file_has_the_usual_permissions(tmp_path):
    usual = tmp_path / "usual"
    usual.touch()
    write_weights(tmp_path / "x.safetensors", TENSORS)
    assert stat.S_IMODE((tmp_path / "x.safetensors").stat().st_mode) == stat.S_IMODE(usual.stat().st_mode)
