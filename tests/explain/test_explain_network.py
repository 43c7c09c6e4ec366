"""The parts of a network against the layers of a real one."""

from __future__ import annotations

from collections import Counter

import paddle
import pytest

import cyclemlp
from cyclemlp.explain import plot_network
from cyclemlp.network import VARIANTS, part_costs

SMALL = {"embed_dims": (8, 12, 16, 20), "depths": (1, 2, 1, 3), "mlp_ratios": (4, 4, 3, 2)}


def by_place(parts):
    places = Counter()
    for part in parts:
        places[part.place] += part.parameters
    return dict(places)


@pytest.mark.parametrize(
    "overrides",
    [
        {"num_classes": 5},
        {"num_classes": 5, "branches": ("w", "c"), "in_chans": 1},
        {"num_classes": 0, "gate": False, "downsample": "merge", "patch_norm": True},
        {"features_only": True, "out_indices": (0, 2)},
    ],
)
def test_parameters_and_shapes_of_every_place(overrides):
    model = cyclemlp.create_model("cyclemlp_nano", **SMALL, **overrides)
    parts = part_costs(model.config, 40, 72)
    expected = {"patch embedding": model.patch_embed}
    for i, layer in enumerate(model.network):
        expected[f"stage {i // 2 + 1}" if i % 2 == 0 else f"downsampling {i // 2 + 1}–{i // 2 + 2}"] = layer
    sizes = {place: sum(p.size for p in layer.parameters()) for place, layer in expected.items()}
    places = by_place(parts)
    rest = sum(p.size for p in model.parameters()) - sum(sizes.values())
    last = "maps" if model.config.features_only else "head"
    assert places == {**sizes, last: rest}

    shapes = {}
    hooks = [
        layer.register_forward_post_hook(
            lambda _, __, out, place=place: shapes.update({place: out.shape[1:]})
        )
        for place, layer in expected.items()
    ]
    model(paddle.zeros([1, model.config.in_chans, 40, 72]))
    for hook in hooks:
        hook.remove()
    given = {part.place: [part.height, part.width, part.channels] for part in parts}
    assert {place: given[place] for place in shapes} == shapes


def test_parts_of_a_stage():
    (branches, gate, projection, mlp, norms) = [
        part for part in part_costs(VARIANTS["cyclemlp_b1"].config) if part.place == "stage 3"
    ]
    assert [part.times for part in (branches, gate, projection, mlp, norms)] == [4] * 5
    assert branches.macs == 4 * 14 * 14 * 3 * 320 * 320
    assert branches.parameters == 4 * (3 * 320 * 320 + 2 * 320)  # the channel FC has no bias
    assert gate.macs == 4 * (320 * 80 + 80 * 3 * 320)
    assert projection.parameters == 4 * (320 * 320 + 320)
    assert mlp.macs == 4 * 14 * 14 * 2 * 320 * 1280
    assert (norms.parameters, norms.macs) == (4 * 4 * 320, 0)


@pytest.mark.parametrize("overrides", [{"features_only": True, "out_indices": (1,)}, {"branches": ("c",)}])
def test_drawings_of_other_forms(tmp_path, overrides):
    config = VARIANTS["cyclemlp_nano"].config.replace(overrides)
    path = plot_network("nano", config, part_costs(config, 64, 48), (64, 48), tmp_path / "nano.svg")
    assert path.stat().st_size > 10_000
