"""Reading: every form that is met in the wild gives the same tensors, in Paddle's layout, and says what it found."""

import io
import json
import pickle
import zipfile
from collections import OrderedDict

import numpy as np
import paddle
import pytest
from hostile_files import (
    array,
    bare,
    call,
    dictionary,
    integer,
    name,
    safetensors,
    storage,
    tensor,
    text,
    torch_legacy,
    torch_zip,
)
from safetensors.numpy import save_file
from weights_fixtures import FILES, parameters, rebuild

import cyclemlp
from cyclemlp.errors import WeightsError
from cyclemlp.weights import read_weights, write_weights
from cyclemlp.weights.torch_files import _CONSTRUCTORS
from cyclemlp.weights.unpickle import read_pickle

OFFSETS_NOTE = "20 offset buffers checked (sfc_h 1×3, sfc_w 3×1) and left out"


def in_paddles_layout():
    return {n: v.T if v.ndim == 2 else v for n, v in parameters().items()}


def assert_same(tensors, expected):
    assert list(tensors) == list(expected)
    for key, value in expected.items():
        assert tensors[key].dtype == value.dtype, key
        np.testing.assert_array_equal(tensors[key], value, err_msg=key)


@pytest.mark.parametrize("file_name", FILES)
def test_real_files(file_name, tmp_path):
    path = rebuild(file_name, tmp_path)
    file = read_weights(path)
    assert_same(file.tensors, in_paddles_layout())
    assert file.path == path
    assert file.layout == ("paddle" if file_name == "seed.pdparams" else "authors")
    assert file.metadata == {}
    assert file.notes[-1] == OFFSETS_NOTE
    assert dict(file.step_sizes) == {"sfc_h": (1, 3), "sfc_w": (3, 1)}


def test_the_content_decides_and_not_the_name(tmp_path):
    path = rebuild("authors_release.pth", tmp_path).rename(tmp_path / "weights.pdparams")
    assert_same(read_weights(path).tensors, in_paddles_layout())


def test_a_training_checkpoint_says_what_was_left_out(tmp_path):
    file = read_weights(rebuild("authors_training_checkpoint.pth", tmp_path))
    left_out = "optimizer, lr_scheduler, epoch, model_ema, scaler, args"
    assert file.notes[0] == f"read the entry 'model'; left out: {left_out}"


def test_a_namespace_is_an_inert_dict(tmp_path):
    with zipfile.ZipFile(rebuild("authors_training_checkpoint.pth", tmp_path)) as archive:
        stream = io.BytesIO(archive.read("authors_training_checkpoint/data.pkl"))
    tree = read_pickle(stream, _CONSTRUCTORS, _storage)
    assert tree["args"] == {"model": "CycleMLP_B1", "lr": 0.001, "opt_betas": None}
    assert isinstance(tree["args"], dict)
    assert tree["lr_scheduler"] == {"base_values": [0.001], "last": 0.5}  # NumPy's scalar is a float
    assert type(tree["lr_scheduler"]["last"]) is float


def _storage(identity):
    from cyclemlp.weights.torch_files import _ZipStorages

    return _ZipStorages(None, "", False).persistent_load(identity)


def test_the_prefix_of_data_parallelism_is_left_out(tmp_path):
    (tmp_path / "x.pth").write_bytes(torch_zip(b"}(" + text("module.w") + tensor() + b"u", {"0": bytes(8)}))
    file = read_weights(tmp_path / "x.pth", layout="authors")
    assert list(file.tensors) == ["w"]
    assert "'module.'" in " ".join(file.notes)


@pytest.mark.parametrize("entry", ["state_dict", "model_ema"])
def test_other_entries(entry, tmp_path):
    (tmp_path / "x.pth").write_bytes(
        torch_zip(dictionary(**{entry: dictionary(w=tensor())}), {"0": np.float32([1, 2]).tobytes()})
    )
    file = read_weights(tmp_path / "x.pth")
    np.testing.assert_array_equal(file.tensors["w"], np.float32([1, 2]))
    assert file.notes[0] == f"read the entry {entry!r}"


# ---- PyTorch's types and views


@pytest.mark.parametrize(
    ("kind", "numbers", "dtype"),
    [
        ("DoubleStorage", np.float64([1.5, -2]), "float64"),
        ("HalfStorage", np.float16([1.5, -2]), "float16"),
        ("LongStorage", np.int64([3, -4]), "int64"),
        ("BoolStorage", np.array([True, False]), "bool"),
    ],
)
@pytest.mark.parametrize("legacy", [False, True])
def test_types_of_torch_files(kind, numbers, dtype, legacy, tmp_path):
    program, data = dictionary(w=tensor(held=storage(kind=kind))), numbers.tobytes()
    length = (2).to_bytes(8, "little")
    content = torch_legacy(program, b"]" + text("0") + b"a", length + data)
    (tmp_path / "x.pth").write_bytes(content if legacy else torch_zip(program, {"0": data}))
    read = read_weights(tmp_path / "x.pth").tensors["w"]
    assert read.dtype == dtype
    np.testing.assert_array_equal(read, numbers)


BFLOAT16 = {0x3F80: 1.0, 0xC010: -2.25, 0x0001: 2.0**-133, 0x7F80: np.inf}  # bits → value


def test_bfloat16_is_read_exactly(tmp_path):
    bits = np.array(list(BFLOAT16), np.uint16).tobytes()
    torch = dictionary(w=tensor((4,), held=storage(length=4, kind="BFloat16Storage")))
    header = {"w": {"dtype": "BF16", "shape": [4], "data_offsets": [0, 8]}}
    files = {
        "x.pth": torch_zip(torch, {"0": bits}),
        "x.pdparams": bare(dictionary(w=array(count=4, dtype="u2", data=bits))),
        "x.safetensors": safetensors(header, bits),
    }
    for file_name, content in files.items():
        (tmp_path / file_name).write_bytes(content)
        file = read_weights(tmp_path / file_name)
        assert file.tensors["w"].dtype == np.float32
        assert file.tensors["w"].tolist() == list(BFLOAT16.values())
        assert file.notes[0] == "1 bfloat16 tensor read as float32, which is exact"


def test_paddle_writes_bfloat16_as_its_bits(tmp_path):
    paddle.save({"w": paddle.to_tensor([1.0, -2.25]).astype("bfloat16")}, str(tmp_path / "x.pdparams"))
    file = read_weights(tmp_path / "x.pdparams")
    assert file.tensors["w"].tolist() == [1.0, -2.25]


def test_views_of_one_storage(tmp_path):
    held = storage(length=6)
    program = dictionary(
        whole=tensor((2, 3), (3, 1), held=held),
        transposed=tensor((3, 2), (1, 3), held=held),
        last=tensor((2,), (3,), 2, held),
        number=tensor((), (), 4, held),
        empty=tensor((0, 3), (3, 1), 0, held),
    )
    (tmp_path / "x.pth").write_bytes(torch_zip(program, {"0": np.arange(6, dtype="f4").tobytes()}))
    tensors = read_weights(tmp_path / "x.pth").tensors
    assert tensors["whole"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert tensors["transposed"].tolist() == [[0, 3], [1, 4], [2, 5]]
    assert tensors["last"].tolist() == [2, 5]
    assert tensors["number"].tolist() == 4
    assert tensors["empty"].shape == (0, 3)


def test_a_parameter_an_ordered_dict_and_big_endian_numbers(tmp_path):
    parameter = call(name("torch._utils", "_rebuild_parameter"), tensor(), b"\x88", b"}")
    ordered = name("collections", "OrderedDict") + b")R(" + text("w") + parameter + b"u"
    ordered += dictionary(_metadata=b"}") + b"b"  # OrderedDict's attribute, as state_dict() sets it
    content = io.BytesIO(torch_zip(ordered, {"0": np.array([1, 2], ">f4").tobytes()}))
    with zipfile.ZipFile(content, "a") as archive:
        archive.writestr("archive/byteorder", b"big")
    (tmp_path / "x.pth").write_bytes(content.getvalue())
    assert read_weights(tmp_path / "x.pth").tensors["w"].tolist() == [1, 2]


# ---- Paddle's forms


STATE = {"fc.weight": np.arange(6, dtype="f4").reshape(2, 3), "fc.bias": np.zeros(3, "f4")}


def assert_state(path):
    file = read_weights(path)
    assert file.layout == "paddle"
    assert_same(file.tensors, STATE)


@pytest.mark.parametrize("protocol", [2, 3, 4])
@pytest.mark.parametrize("of_tensors", [False, True])
def test_what_paddle_saves(protocol, of_tensors, tmp_path):
    state = {key: paddle.to_tensor(value) if of_tensors else value for key, value in STATE.items()}
    paddle.save(state, str(tmp_path / "x.pdparams"), protocol=protocol)
    assert_state(tmp_path / "x.pdparams")


def test_what_a_paddle_layer_saves(tmp_path):
    layer = paddle.nn.Sequential(("fc", paddle.nn.Linear(2, 3)))
    paddle.save(layer.state_dict(), str(tmp_path / "x.pdparams"))
    file = read_weights(tmp_path / "x.pdparams")
    assert_same(file.tensors, {key: value.numpy() for key, value in layer.state_dict().items()})


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_pickles_of_arrays(protocol, tmp_path):
    fortran = {key: np.asfortranarray(value).astype(">f4") for key, value in STATE.items()}
    (tmp_path / "x.pdparams").write_bytes(pickle.dumps(OrderedDict(fortran), protocol=protocol))
    assert_state(tmp_path / "x.pdparams")


def test_eval_of_a_dense_tensor_is_taken_as_data(tmp_path):
    for module in ("builtins", "__builtin__"):
        value = call(
            name(module, "eval"), text("data"), dictionary(data=array(data=np.float32([1, 2]).tobytes()))
        )
        (tmp_path / "x.pdparams").write_bytes(bare(dictionary(w=value)))
        assert read_weights(tmp_path / "x.pdparams").tensors["w"].tolist() == [1, 2]


def test_tensors_that_paddle_cut_up(tmp_path):
    """With protocol 2 and 3, paddle.save cuts tensors over 1 GiB; here a small one. Paddle puts it together too."""
    whole = np.arange(12, dtype="f4").reshape(3, 4)
    pieces = {"w@@.0": whole.ravel()[:5], "w@@.1": whole.ravel()[5:]}
    table = {"w": {"OriginShape": (3, 4), "slices": list(pieces)}}
    path = tmp_path / "x.pdparams"
    path.write_bytes(
        pickle.dumps({"small": STATE["fc.bias"], **pieces, "UnpackBigParamInfor@@": table}, protocol=2)
    )
    expected = {"small": STATE["fc.bias"], "w": whole}
    assert_same({key: value.numpy() for key, value in paddle.load(str(path)).items()}, expected)
    assert_same(read_weights(path).tensors, expected)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_an_empty_array(protocol, tmp_path):
    (tmp_path / "x.pdparams").write_bytes(pickle.dumps({"w": np.zeros((0, 3), "f4")}, protocol=protocol))
    assert read_weights(tmp_path / "x.pdparams").tensors["w"].shape == (0, 3)


def test_python_2s_strings(tmp_path):
    data = np.float32([1, 2]).tobytes()
    string = b"U" + bytes([len(data)]) + data
    content = bare(dictionary(w=array(data=data).replace(b"B\x08\x00\x00\x00" + data, string)))
    assert string in content
    (tmp_path / "x.pdparams").write_bytes(content)
    assert read_weights(tmp_path / "x.pdparams").tensors["w"].tolist() == [1, 2]


# ---- safetensors


@pytest.mark.parametrize("layout", ["authors", "paddle"])
def test_safetensors_of_the_library(layout, tmp_path):
    """Written by others: no metadata of ours, names sorted by the library."""
    tensors = parameters() if layout == "authors" else in_paddles_layout()
    save_file(
        {key: np.ascontiguousarray(value) for key, value in tensors.items()}, tmp_path / "x.safetensors"
    )
    file = read_weights(tmp_path / "x.safetensors")
    assert file.layout == layout
    expected = in_paddles_layout()
    assert_same(dict(sorted(file.tensors.items())), dict(sorted(expected.items())))


def test_all_numbers_of_safetensors(tmp_path):
    kinds = ["f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "?"]
    tensors = {kind: np.array([[0, 1], [1, 0]], kind) for kind in kinds} | {"scalar": np.array(3, "f4")}
    save_file(tensors, tmp_path / "x.safetensors")
    read = read_weights(tmp_path / "x.safetensors").tensors
    assert_same(dict(sorted(read.items())), dict(sorted(tensors.items())))


# ---- folders


def test_folders_of_a_run(tmp_path):
    for folder, value in (("checkpoint_0009", 9), ("checkpoint_0010", 10), ("checkpoint_tmp", 99)):
        (tmp_path / "checkpoints" / folder).mkdir(parents=True)
        write_weights(tmp_path / "checkpoints" / folder / "model.safetensors", {"w": np.float32([value])})
    (tmp_path / "checkpoints/checkpoint_0011").mkdir()  # no model in it
    file = read_weights(tmp_path)
    assert file.path == tmp_path / "checkpoints/checkpoint_0010" / "model.safetensors"
    assert file.tensors["w"] == 10
    assert read_weights(tmp_path / "checkpoints/checkpoint_0009").tensors["w"] == 9
    write_weights(tmp_path / "best.safetensors", {"w": np.float32([1])})
    assert read_weights(str(tmp_path)).path == tmp_path / "best.safetensors"


def test_an_unreadable_file_is_told(tmp_path):
    with pytest.raises(WeightsError, match="unknown layout 'torch'; use one of authors, paddle"):
        read_weights(tmp_path, layout="torch")
    loop = tmp_path / "loop.pth"
    loop.symlink_to(loop)
    with pytest.raises(WeightsError, match=r"loop\.pth: there is no such file"):
        read_weights(loop)


def test_integers_of_any_size_stay_data(tmp_path):
    """A checkpoint's step counter may be any number."""
    (tmp_path / "x.pdparams").write_bytes(bare(dictionary(w=array(), step=integer(10**30))))
    assert "left out 1 entry that is not a tensor: step" in read_weights(tmp_path / "x.pdparams").notes


@pytest.mark.parametrize(
    "prefix", ["module.", "backbone.", "model.", "_orig_mod.", "module.backbone.", "model.model."]
)
@pytest.mark.parametrize("suffix", ["pdparams", "safetensors"])
def test_prefixes_of_wrappers_are_left_out(tmp_path, prefix, suffix):
    tensors = {f"{prefix}head.weight": np.zeros((2, 3)), f"{prefix}head.bias": np.zeros(3)}
    write_weights(tmp_path / f"m.{suffix}", tensors)
    file = read_weights(tmp_path / f"m.{suffix}")
    assert list(file.tensors) == ["head.weight", "head.bias"]
    assert f"left out the prefix {prefix!r} of every name" in file.notes[0]


def test_a_prefix_of_some_names_is_no_prefix(tmp_path):
    tensors = {"backbone.head.weight": np.zeros((2, 3)), "head.bias": np.zeros(3)}
    write_weights(tmp_path / "m.safetensors", tensors)
    assert set(read_weights(tmp_path / "m.safetensors").tensors) == set(tensors)
    write_weights(tmp_path / "m.pdparams", {"model.": np.zeros(3)})
    assert list(read_weights(tmp_path / "m.pdparams").tensors) == ["model."]


def test_which_of_two_models_was_read_is_said(tmp_path):
    with (tmp_path / "m.pdparams").open("wb") as file:
        pickle.dump(
            {name: {"head.bias": np.full(2, 1.0)} for name in ("model_ema", "model")}, file, protocol=2
        )
    with pytest.warns(UserWarning, match="has the entries 'model', 'model_ema': 'model' was read"):
        read_weights(tmp_path / "m.pdparams")


def test_a_tensor_called_metadata_is_no_safetensors(tmp_path):
    (tmp_path / "m.safetensors").write_bytes(b"precious")
    with pytest.raises(WeightsError, match="a tensor is called __metadata__"):
        write_weights(tmp_path / "m.safetensors", {"__metadata__": np.zeros(2)})
    assert (tmp_path / "m.safetensors").read_bytes() == b"precious"
    write_weights(tmp_path / "m.pdparams", {"__metadata__": np.zeros(2)})


ODD = [
    {"patch_embed.proj.weight": np.zeros([0, 3, 7, 7])},
    {"network.0.0.norm1.weight": np.zeros([])},
    {"network.0.0.norm1.weight": np.zeros([0]), "network.0.0.mlp.fc1.bias": np.zeros(4)},
    {"network.0.0.norm1.weight": np.zeros(4), "network.0.0.mlp.fc1.bias": np.zeros([])},
    {"network.0.0.norm1.weight": np.zeros((2, 2, 2))},
    {"a\x1b[31m": np.zeros(1)},
    {"": np.zeros(1)},
    {"x" * 100_000: np.zeros(1)},
    {"layers.x.blocks.0": np.zeros(1)},
    {f"k{i}": np.zeros(1, np.int8) for i in range(20_000)},
]


@pytest.mark.parametrize("tensors", ODD, ids=lambda tensors: repr(next(iter(tensors)))[:20])
def test_odd_tensors_are_refused_with_a_short_message(tmp_path, tensors):
    write_weights(tmp_path / "m.pdparams", tensors)
    with pytest.raises(WeightsError, match="does not fit the model") as error:
        cyclemlp.create_model("cyclemlp_nano", pretrained=tmp_path / "m.pdparams")
    assert len(str(error.value)) < 5000
    assert "\x1b" not in str(error.value)


def test_numbers_that_are_not_finite_are_counted(tmp_path):
    model = cyclemlp.create_model("cyclemlp_nano", num_classes=3)
    state = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    state["head.bias"] = np.array([np.nan, 1, np.inf], np.float32)
    write_weights(tmp_path / "m.pdparams", state)
    with pytest.warns(UserWarning, match="2 numbers of 1 tensor are NaN or infinite, the first in head.bias"):
        cyclemlp.load_weights(model, tmp_path / "m.pdparams")


def test_prefixes_are_bounded(tmp_path):
    write_weights(tmp_path / "m.pdparams", {"model." * 5000 + "head.bias": np.zeros(2)})
    (name,) = read_weights(tmp_path / "m.pdparams").tensors
    assert name.count("model.") == 5000 - 16


def test_a_shape_with_a_zero_is_no_larger_than_memory(tmp_path):
    header = {"a": {"dtype": "F32", "shape": [0, 2**62, 2**62], "data_offsets": [0, 0]}}
    text = json.dumps(header).encode()
    (tmp_path / "m.safetensors").write_bytes(len(text).to_bytes(8, "little") + text)
    with pytest.raises(WeightsError, match="shape"):
        read_weights(tmp_path / "m.safetensors")
