"""safetensors files, by `cyclemlp.weights`."""

from hostile_files import safetensors, small_safetensors
from scratch import written

from cyclemlp.weights import read_weights


def seeds():
    yield small_safetensors()
    norm = {"dtype": "F16", "shape": [4], "data_offsets": [0, 8]}
    head = {"dtype": "BF16", "shape": [2, 2], "data_offsets": [8, 16]}
    yield safetensors({"norm.weight": norm, "head.weight": head, "__metadata__": {"a": "b"}}, bytes(16))
    yield safetensors({"w": {"dtype": "I64", "shape": [0], "data_offsets": [0, 0]}})


def check(data):
    read_weights(written(data, "a.safetensors"))
