"""Effective receptive fields: figures of a made-up field, limits of real ones, and that the network stays as it was."""

from __future__ import annotations

import numpy as np
import paddle
import pytest

import cyclemlp
from cyclemlp.errors import DataError, ModelError
from cyclemlp.explain import Field, effective_field

SMALL = {"in_chans": 1, "embed_dims": (8, 8, 8, 8), "depths": (1, 1, 1, 1), "num_classes": 2}


def images(count, *size, seed=0):
    return np.random.default_rng(seed).normal(size=(count, 1, *size)).astype("float32")


@pytest.fixture(scope="module")
def model():
    paddle.seed(0)
    return cyclemlp.create_model("cyclemlp_nano", **SMALL)


def test_area_and_side_of_a_made_up_field():
    values = np.zeros((1, 9, 9))
    values[0, 4, 4], values[0, 3, 4], values[0, 4, 8] = 0.5, 0.3, 0.2
    field = Field((1,), values, np.array([[4.5, 4.5]]), 1)
    assert field.area(0.5).tolist() == [1 / 81]
    assert field.area(0.8).tolist() == [2 / 81]
    assert field.area(0.81).tolist() == [3 / 81]
    assert [field.side(share)[0] for share in (0.5, 0.8, 0.95, 1)] == [1, 3, 9, 9]
    assert field.touched().tolist() == [[3, 4, 4, 8]]


def test_a_channel_fc_network_sees_what_its_convolutions_see():
    """Patches of 7 at stride 4, then 3×3 at stride 2 between stages: 7, 15, 31, 63 pixels."""
    paddle.seed(0)
    geometry = {**SMALL, "patch_size": 7, "patch_stride": 4}
    channel_fc = cyclemlp.create_model("cyclemlp_nano", **geometry, branches=("c",))
    field = effective_field(channel_fc, [images(3, 128, 160)])
    # Of rows 16, 8, 4 and 2 of the maps: row i of the first begins at pixel 4·i − 2.
    assert [tuple(edges[:2]) for edges in field.touched()] == [(62, 68), (58, 72), (50, 80), (34, 96)]
    assert [edges[3] - edges[2] + 1 for edges in field.touched()] == [7, 15, 31, 63]
    middles = [(edges[0] + edges[1] + 1) / 2 for edges in field.touched()]
    assert field.centres[:, 0].tolist() == middles

    cycle_fc = cyclemlp.create_model("cyclemlp_nano", **geometry)
    wider = effective_field(cycle_fc, [images(3, 128, 160)], through_gate=False)
    # One block before each map: a position more on each side, which is the stage's stride in pixels, and all before it.
    assert [edges[1] - edges[0] + 1 for edges in wider.touched()][:3] == [15, 39, 87]
    assert (wider.area(0.95) > field.area(0.95)).all()


def test_batches_do_not_matter(model):
    both = images(3, 32, 40)
    whole = effective_field(model, [both], (2, 4))
    parts = effective_field(model, [both[:1], paddle.to_tensor(both[1:])], [4, 2])
    assert whole.stages == parts.stages == (2, 4)
    assert whole.images == parts.images == 3
    np.testing.assert_allclose(parts.maps, whole.maps, rtol=1e-3, atol=1e-8)
    np.testing.assert_allclose(whole.maps.sum(axis=(1, 2)), 1)


def test_the_network_stays_as_it_was(model):
    model.train()
    model.network[0].eval()
    before = [layer.training for layer in model.sublayers(include_self=True)]
    effective_field(model, [images(1, 32, 32)], through_gate=False)
    with pytest.raises(ModelError):
        effective_field(model, [images(1, 8, 8)], through_gate=False)
    assert [layer.training for layer in model.sublayers(include_self=True)] == before
    assert not any(layer._forward_post_hooks for layer in model.sublayers())


def test_errors(model):
    with pytest.raises(DataError, match="no image"):
        effective_field(model, [])
    with pytest.raises(DataError, match="32×32 and of 32×48"):
        effective_field(model, [images(1, 32, 32), images(1, 32, 48)])
    with pytest.raises(ModelError, match=r"stages \[5\].*1 to 4"):
        effective_field(model, [images(1, 32, 32)], [5])
    broken = cyclemlp.create_model("cyclemlp_nano", **SMALL)
    broken.patch_embed.proj.weight.set_value(np.full(broken.patch_embed.proj.weight.shape, np.nan, "float32"))
    with pytest.raises(FloatingPointError, match="not finite"):
        effective_field(broken, [images(1, 32, 32)])
