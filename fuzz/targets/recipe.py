"""Recipes in YAML and values given with --set, by `cyclemlp.training`."""

from scratch import written

from cyclemlp.config import parse_assignments
from cyclemlp.training import Recipe


def seeds():
    yield Recipe().to_yaml().encode()
    yield b"model: {name: cyclemlp_nano, overrides: {num_classes: 3}}\nrun: {epochs: 3}\n"
    yield b"a: &a [1, 2]\noptimizer: {lr: 1e-3, clip_norm: null}\ndata: {preprocessing: {mean: [0.5], std: [0.5]}}\n"
    yield b"=optimizer.lr=1e-3"
    yield b"=model.overrides={depths: [1, 1, 1, 1]}"


def check(data):
    if data[:1] == b"=":
        text = data[1:].decode("utf-8", "replace")
        Recipe().updated(parse_assignments([text]), where="--set")
    else:
        recipe = Recipe.load(written(data, "recipe.yaml"))
        assert Recipe.from_dict(recipe.to_dict()) == recipe
