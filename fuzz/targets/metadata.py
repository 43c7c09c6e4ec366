"""What weight files and exported models say of their model: JSON, by `cyclemlp.weights` and `cyclemlp.deploy`."""

import json

from hostile_files import safetensors
from scratch import written

from cyclemlp.deploy.metadata import ExportMetadata, Output
from cyclemlp.preprocessing import Preprocessing
from cyclemlp.weights import read_weights

OUTPUTS = [Output("logits", "logits"), Output("class_maps", "class maps", 32)]


def seeds():
    export = ExportMetadata("cyclemlp_nano", classes=["a", "b"], num_classes=2, outputs=OUTPUTS)
    yield export.to_json().encode()
    values = {
        "format": 1,
        "model": "cyclemlp_nano",
        "overrides": {"num_classes": 3, "step_size": [3, 1], "gate": False},
        "preprocessing": Preprocessing().to_dict(),
        "classes": ["a", "b", "c"],
        "epoch": 3,
    }
    yield json.dumps(values).encode()


def check(data):
    text = data.decode("utf-8", "replace")
    tensors = {"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}
    content = safetensors({**tensors, "__metadata__": {"cyclemlp": text}}, bytes(8))
    errors = []
    for read in (
        lambda: read_weights(written(content, "a.safetensors")),
        lambda: ExportMetadata.from_json(text, "a.json"),
    ):
        try:
            read()
        except ValueError as error:  # the package's own are; others are told apart by who calls this
            errors.append(error)
    for error in errors:
        raise error
