"""The pseudo-kernel against offsets worked out by hand, and against what a real network's gradient touches."""

from __future__ import annotations

import numpy as np
import paddle
import pytest

import cyclemlp
from cyclemlp.errors import ConfigError
from cyclemlp.explain import cycle_kernel, effective_field

PLUS = {(0, 0), (0, 1), (0, -1), (1, 0), (-1, 0)}


def test_offsets_of_steps_of_three():
    kernel = cycle_kernel(channels=7)
    assert kernel.offsets["h"].tolist() == [[0, 0], [0, 1], [0, -1], [0, 0], [0, 1], [0, -1], [0, 0]]
    assert kernel.offsets["w"].tolist() == [[0, 0], [1, 0], [-1, 0], [0, 0], [1, 0], [-1, 0], [0, 0]]


def test_positions_through_blocks():
    kernel = cycle_kernel(channels=6, blocks=(3, 1, 2))
    assert list(kernel.paths) == [1, 2, 3]
    assert kernel.positions(1) == PLUS
    assert kernel.positions(2) == {(a + c, b + d) for a, b in PLUS for c, d in PLUS}
    assert kernel.positions(3) == {(h, w) for h in range(-3, 4) for w in range(-3, 4) if abs(h) + abs(w) <= 3}


@pytest.mark.parametrize(
    ("steps", "branches", "channels", "expected"),
    [
        (((1, 3), (3, 1)), "c", 6, {(0, 0)}),
        (((1, 3), (3, 1)), "h", 6, {(0, -1), (0, 0), (0, 1)}),
        (((1, 2), (2, 1)), "hw", 6, {(0, 0), (0, -1), (-1, 0)}),  # an even step reads before, not after
        (((1, 7), (7, 1)), "hc", 2, {(0, 0), (0, 1)}),  # two channels read two positions
        (((3, 3), (1, 1)), "hw", 9, {(h, w) for h in (-1, 0, 1) for w in (-1, 0, 1)}),
    ],
)
def test_positions_of_other_kernels(steps, branches, channels, expected):
    assert cycle_kernel(steps, channels, (1,), branches).positions(1) == expected


def test_shares_of_the_ways():
    paths = cycle_kernel(channels=3, blocks=(1, 2)).paths
    # Round the mixer 1/4, channel FC 1/4, a third of each Cycle FC's quarter stays; the rest goes to four neighbours.
    np.testing.assert_allclose(paths[1], np.array([[0, 1, 0], [1, 8, 1], [0, 1, 0]]) / 12, atol=1e-15)
    assert paths[2].sum() == pytest.approx(1)
    assert paths[2][2, 2] == pytest.approx((8 * 8 + 4) / 144)  # stay and stay, or there and back
    assert paths[2][1, 1] == pytest.approx(2 / 144)


@pytest.mark.parametrize(
    ("blocks", "step", "branches"),
    [
        (1, 3, "hwc"),
        (3, 3, "hwc"),
        (2, 4, "hw"),
        (2, 5, "wc"),
        (2, ((2, 3), (1, 1)), "hwc"),
    ],
)
def test_positions_are_those_that_a_gradient_touches(blocks, step, branches):
    paddle.seed(0)
    model = cyclemlp.create_model(
        "cyclemlp_nano",
        in_chans=1,
        embed_dims=(12, 12, 12, 12),
        depths=(blocks, 1, 1, 1),
        patch_size=1,
        patch_stride=1,
        step_size=step,
        branches=tuple(branches),
        features_only=True,
        out_indices=(0,),
    )
    image = np.random.default_rng(0).normal(size=(1, 1, 21, 21)).astype("float32")
    field = effective_field(model, [image], through_gate=False)
    touched = {(int(h) - 10, int(w) - 10) for h, w in np.argwhere(field.maps[0] > 0)}
    kernel = cycle_kernel(model.config.step_sizes, 12, (blocks,), branches)
    assert touched == kernel.positions(blocks)
    if len(branches) > 1:  # the gate sees everything
        assert (effective_field(model, [image]).maps[0] > 0).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"branches": "x"}, "branches are x"),
        ({"branches": ""}, "branches are none"),
        ({"channels": 0}, "at least 1"),
        ({"blocks": (0,)}, "at least 1"),
        ({"step_sizes": ((1, 0), (3, 1))}, "at least 1"),
        ({"blocks": (5000,)}, "fewer blocks"),
    ],
)
def test_impossible_kernels(arguments, message):
    with pytest.raises(ConfigError, match=message):
        cycle_kernel(**arguments)
