"""Weight files ↔ dicts of name to array, safely; layouts; the published files. Needs neither Paddle nor PyTorch."""

from cyclemlp.weights.architecture import architecture_differences, read_architecture
from cyclemlp.weights.download import fetch_pretrained
from cyclemlp.weights.files import WeightFile, read_weights, write_weights
from cyclemlp.weights.layout import LAYOUTS
from cyclemlp.weights.match import MatchReport, match_weights
from cyclemlp.weights.pretrained import pretrained_file, pretrained_tags

__all__ = [
    "LAYOUTS",
    "MatchReport",
    "WeightFile",
    "architecture_differences",
    "fetch_pretrained",
    "match_weights",
    "pretrained_file",
    "pretrained_tags",
    "read_architecture",
    "read_weights",
    "write_weights",
]
