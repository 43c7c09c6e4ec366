"""PyTorch's checkpoints of before 1.6, by `cyclemlp.weights`."""

from hostile_files import dictionary, storage, tensor, torch_legacy
from scratch import written

from cyclemlp.weights import read_weights


def seeds():
    yield torch_legacy(dictionary(w=tensor()), b"](X\x01\x00\x00\x000e", bytes([2, *bytes(7)]) + bytes(8))
    yield torch_legacy(dictionary(w=storage()))
    yield torch_legacy(b"}")


def check(data):
    read_weights(written(data, "a.pth"))
