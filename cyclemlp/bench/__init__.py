"""Speed, latency and memory of models, each case in a process of its own."""

from cyclemlp.bench.cases import NETWORK, WAYS, Case, Machine, Model, measure, measure_machine, prepare
from cyclemlp.bench.timing import time_batches

__all__ = [
    "NETWORK",
    "WAYS",
    "Case",
    "Machine",
    "Model",
    "measure",
    "measure_machine",
    "prepare",
    "time_batches",
]
