"""The layout of a file, and the offset buffers."""

import numpy as np
import pytest

from cyclemlp.errors import WeightsError
from cyclemlp.offsets import cycle_offsets
from cyclemlp.weights import read_weights, write_weights
from cyclemlp.weights.layout import offset_buffer, put_offsets, recognise, step_sizes, take_offsets


def zeros(**shapes):
    return {name.replace("__", "."): np.zeros(shape, np.float32) for name, shape in shapes.items()}


FC1 = {"authors": zeros(fc1__weight=(8, 4), fc1__bias=8), "paddle": zeros(fc1__weight=(4, 8), fc1__bias=8)}
SQUARE = zeros(proj__weight=(4, 4), proj__bias=4)
NO_BIAS = zeros(mlp_c__weight=(4, 6))


@pytest.mark.parametrize("layout", ["authors", "paddle"])
def test_recognised_by_what_is_not_square(layout):
    assert recognise({**SQUARE, **NO_BIAS, **FC1[layout]}) == (layout, ())
    assert recognise(FC1[layout], asked=layout, recorded=layout) == (layout, ())


def test_only_a_file_without_any_asks():
    for tensors in (SQUARE, NO_BIAS):
        with pytest.raises(WeightsError, match=r"does not tell its layout: .*--layout"):
            recognise(tensors)
        assert recognise(tensors, asked="authors")[0] == "authors"
        assert recognise(tensors, recorded="paddle")[0] == "paddle"
        with pytest.raises(WeightsError, match="its metadata says, but you asked for authors"):
            recognise(tensors, asked="authors", recorded="paddle")


def test_other_networks_tell_too():
    """A convolutional teacher has one linear layer; convolutions and norms say nothing."""
    teacher = zeros(
        conv___conv__weight=(32, 3, 3, 3), conv___batch_norm__weight=32, conv___batch_norm__bias=32
    )
    assert recognise(teacher) == ("paddle", ("no linear weights, so both layouts are the same",))
    assert recognise({**teacher, **zeros(out__weight=(1360, 1000), out__bias=1000)})[0] == "paddle"


def test_contradictions_are_errors():
    mixed = {**FC1["authors"], **zeros(fc2__weight=(8, 4), fc2__bias=4)}
    with pytest.raises(
        WeightsError, match=r"fc1.weight \[8, 4\] is \[out, in\].*fc2.weight \[8, 4\] is \[in, out\]"
    ):
        recognise(mixed)
    with pytest.raises(
        WeightsError, match=r"is in the authors layout, as fc1.weight .* but you asked for paddle"
    ):
        recognise(FC1["authors"], asked="paddle")
    with pytest.raises(WeightsError, match=r"is in the paddle layout, .* but its metadata says authors"):
        recognise(FC1["paddle"], recorded="authors")
    with pytest.raises(WeightsError, match=r"is damaged: fc1.weight is \[8, 4\] and its bias \[5\]"):
        recognise(zeros(fc1__weight=(8, 4), fc1__bias=5))


def test_square_weights_follow_the_files_layout(tmp_path):
    square = np.arange(16, dtype=np.float32).reshape(4, 4)
    tensors = {"proj.weight": square, **FC1["paddle"], "conv.weight": np.ones((4, 4, 1, 1), np.float32)}
    write_weights(tmp_path / "x.safetensors", tensors, layout="authors")
    from safetensors.numpy import load_file

    stored = load_file(tmp_path / "x.safetensors")
    np.testing.assert_array_equal(stored["proj.weight"], square.T)
    assert stored["fc1.weight"].shape == (8, 4)
    np.testing.assert_array_equal(read_weights(tmp_path / "x.safetensors").tensors["proj.weight"], square)


def test_a_file_of_ours_needs_no_layout(tmp_path):
    for layout in ("authors", "paddle"):
        write_weights(tmp_path / "x.safetensors", {"mlp_c.weight": np.eye(3)[:, :2]}, layout=layout)
        file = read_weights(tmp_path / "x.safetensors")
        assert (file.layout, file.tensors["mlp_c.weight"].shape) == (layout, (3, 2))
        other = {"authors": "paddle", "paddle": "authors"}[layout]
        with pytest.raises(WeightsError, match=f"you asked for {other}"):
            read_weights(tmp_path / "x.safetensors", layout=other)


def test_published_offsets():
    """The authors' buffers for a step of 3: (0, 0), (0, 1), (0, −1), … along W; the other way round along H."""
    assert offset_buffer(4, (1, 3)).ravel().tolist() == [0, 0, 0, 1, 0, -1, 0, 0]
    assert offset_buffer(4, (3, 1)).ravel().tolist() == [0, 0, 1, 0, -1, 0, 0, 0]


@pytest.mark.parametrize("step", [(1, 1), (1, 3), (3, 1), (2, 3), (3, 3), (1, 7), (4, 1)])
def test_offsets_are_the_networks(step):
    pairs = offset_buffer(40, step).reshape(40, 2)
    for axis, offsets in enumerate(cycle_offsets(40, step)):
        np.testing.assert_array_equal(pairs[:, axis], offsets)


@pytest.mark.parametrize("step", [(1, 1), (1, 3), (3, 1), (2, 3), (3, 3), (1, 7), (31, 1)])
def test_step_sizes_are_found_in_offsets(step):
    tensors = {"a.sfc_h.weight": np.zeros((64, 64, 1, 1)), "a.sfc_h.offset": offset_buffer(64, step)}
    left, found = take_offsets(tensors)
    assert list(left) == ["a.sfc_h.weight"]
    assert found == {"sfc_h": step}


def test_all_layers_of_a_name_count():
    """With 2 channels a step of 5 looks like one of 3; the wider layer tells."""
    tensors = {"a.sfc_h.offset": offset_buffer(2, (1, 5)), "b.sfc_h.offset": offset_buffer(8, (1, 5))}
    assert take_offsets(tensors)[1] == {"sfc_h": (1, 5)}
    tensors["c.sfc_h.offset"] = offset_buffer(8, (1, 3))
    with pytest.raises(WeightsError, match=r"c\.sfc_h\.offset that is not the offsets"):
        take_offsets(tensors)


def test_wrong_offsets_are_errors():
    papers_figure = offset_buffer(6, (1, 3)) - 1  # starts at −1
    with pytest.raises(
        WeightsError, match=r"a\.sfc_h\.offset that is not the offsets of a Cycle FC.*first values"
    ):
        take_offsets({"a.sfc_h.offset": papers_figure})
    with pytest.raises(WeightsError, match=r"of shape \[6\]; offsets of a Cycle FC are \[1, 2 C, 1, 1\]"):
        take_offsets({"a.sfc_h.offset": np.zeros(6)})


def test_one_wrong_offset_among_a_million():
    buffer = np.zeros((1, 2 * 10**6, 1, 1), np.float32)
    buffer[0, -1] = 1
    with pytest.raises(WeightsError, match="is not the offsets"):
        take_offsets({"a.sfc_h.offset": buffer})


def test_offsets_are_put_behind_their_layer():
    names = ["sfc_h.weight", "sfc_h.bias", "sfc_w.weight", "mlp_c.weight"]
    tensors = {f"a.{name}": np.zeros((6, 6, 1, 1)) for name in names}
    result = put_offsets(tensors, {"sfc_h": (1, 3), "sfc_w": (5, 1)})
    order = ["sfc_h.weight", "sfc_h.bias", "sfc_h.offset", "sfc_w.weight", "sfc_w.offset", "mlp_c.weight"]
    assert list(result) == [f"a.{name}" for name in order]
    np.testing.assert_array_equal(result["a.sfc_w.offset"], offset_buffer(6, (5, 1)))


def test_step_sizes_of_metadata():
    assert step_sizes({}) == {"sfc_h": (1, 3), "sfc_w": (3, 1)}
    assert step_sizes({"overrides": {"step_size": 5}}) == {"sfc_h": (1, 5), "sfc_w": (5, 1)}
    both = {"overrides": {"step_size": [[1, 3], [2, 4]]}}
    assert step_sizes(both) == {"sfc_h": (1, 3), "sfc_w": (2, 4)}
