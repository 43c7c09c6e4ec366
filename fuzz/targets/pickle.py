"""Paddle's pickled weight files, by `cyclemlp.weights`: the stack machine that reads pickles as data."""

import pickle

import numpy as np
from hostile_files import array, bare, dictionary, runs_a_command, shared_storage
from scratch import written

from cyclemlp.weights import read_weights


def seeds():
    yield from (content for content, _ in runs_a_command("true").values() if content[:2] != b"PK")
    for protocol in (2, 3, 4):
        yield pickle.dumps({"head.bias": np.zeros(3, np.float32), "epoch": 3}, protocol=protocol)
    yield bare(dictionary(w=array()))
    yield shared_storage(20, 1)


def check(data):
    read_weights(written(data, "a.pdparams"))
