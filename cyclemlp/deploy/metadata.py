"""What travels along with an exported model, so that a stranger can use it. Without Paddle.

Where it lies: in an ONNX file's `metadata_props`, in an OpenVINO model's `rt_info`, and beside a Paddle Inference
model in `metadata.json`; each time as one JSON text under the same name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from cyclemlp.errors import ConfigError, CycleMLPError
from cyclemlp.metadata import (
    COUNT,
    FORMAT,
    MAPPING,
    MAX_KEYS,
    MULTI_LABEL,
    NAME,
    NAMES,
    PREPROCESSING,
    SIDE,
    STRIDE,
    TEXT,
    THRESHOLDS,
    Check,
    read_fields,
    read_json,
)
from cyclemlp.preprocessing import Preprocessing
from cyclemlp.text import counted, shown

#: The name of the entry in `metadata_props` and `rt_info`.
KEY = "cyclemlp"
#: Of the numbers in an exported model's file.
PRECISIONS = ("float32", "int8")


class ExportError(CycleMLPError):
    """A model that cannot be exported as asked, or an exported one that cannot be used."""


@dataclass(frozen=True)
class Output:
    """One output of an exported model.

    Attributes:
        name: what it is called in the file.
        kind: "logits" `[B, K]`; "features", pooled `[B, C]` or, with a stride, a map `[B, C, H / stride, W / stride]`;
            "class maps" `[B, K, H / stride, W / stride]`, whose mean over positions plus the head's bias is the
            logits; or another word of who exported it.
        stride: of a map, in pixels; None for what is no map.
    """

    name: str
    kind: str
    stride: int | None = None


@dataclass
class ExportMetadata:
    """What an exported model says of itself; `model`, `preprocessing` and `classes` as in `ModelMetadata`.

    Attributes:
        model: name of the model.
        preprocessing: how images become its input.
        classes: names of the classes in the order of the logits, if known.
        num_classes: length of the logits; None if there are none.
        thresholds: of "multi-label classification", the probability (the sigmoid of its logit) from which on each class
            counts as a label; None for 0.5.
        task: "classification", "multi-label classification", "features", or another word of who exported it, such as
            "segmentation".
        outputs: in the order of the file.
        min_size: least height and width of an image, in pixels.
        precision: "float32", or "int8" for a quantised model.
        extra: more JSON values, such as how it was calibrated.
        version: of paddle-cyclemlp that wrote it.
    """

    model: str
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    classes: list[str] | None = None
    num_classes: int | None = None
    task: str = "classification"
    outputs: list[Output] = field(default_factory=list)
    min_size: int = 1
    precision: str = "float32"
    extra: dict[str, Any] = field(default_factory=dict)
    version: str = ""
    thresholds: list[float] | None = None

    def to_json(self) -> str:
        """As the text that is kept in the file."""
        values = {"format": FORMAT, **asdict(self), "preprocessing": self.preprocessing.to_dict()}
        if self.thresholds is None:  # versions that do not know them read the rest
            del values["thresholds"]
        return json.dumps(values, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str, place: str) -> ExportMetadata:
        """From `to_json`'s text.

        Args:
            place: where it was found, for messages.

        Raises:
            ExportError: it is something else, or of a later version.
        """
        try:
            values = read_json(text)
            version = values.pop("format", None)
            if version != FORMAT or isinstance(version, bool):
                raise ExportError(
                    f"{place} has metadata of format {shown(version)}; this version reads {FORMAT}: upgrade "
                    "paddle-cyclemlp"
                )
            unknown = sorted(set(values) - {f.name for f in fields(cls)})
            missing = [name for name in ("model", "preprocessing", "outputs") if name not in values]
            if unknown or missing:
                raise ConfigError(f"unknown keys {shown(unknown)}" if unknown else f"no {', '.join(missing)}")
            values = read_fields(values, _FIELDS)
            values["preprocessing"] = Preprocessing.from_dict(values["preprocessing"])
            names, count = values.get("classes"), values.get("num_classes")
            if names is not None and count is not None and len(names) != count:
                raise ConfigError(f"classes names {counted(len(names), 'class')}, and num_classes is {count}")
            thresholds = values.get("thresholds")
            if thresholds is not None and len(thresholds) != count:
                raise ConfigError(
                    f"thresholds has {counted(len(thresholds), 'number')}, and num_classes is {count}"
                )
            task = values.get("task")
            if thresholds is not None and task != MULTI_LABEL:
                raise ConfigError(f"thresholds belong to the task {MULTI_LABEL!r}, and task is {shown(task)}")
            return cls(**values)
        except ExportError:
            raise
        except ConfigError as error:
            raise ExportError(f"{place} has damaged metadata: {error}; export the model again") from None


def _outputs(value: Any) -> list[Output]:
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_KEYS:
        raise ConfigError(f"is {shown(value)}; expected a list of 1 to {MAX_KEYS} outputs")
    outputs = []
    for place, output in enumerate(value):
        if not isinstance(output, dict) or not {"name", "kind"} <= set(output) <= set(_OUTPUT_FIELDS):
            raise ConfigError(f"[{place}] is {shown(output)}; expected name, kind and stride")
        try:
            outputs.append(Output(**read_fields(output, _OUTPUT_FIELDS)))
        except ConfigError as error:
            raise ConfigError(f"[{place}].{error}") from None
    return outputs


def _precision(value: Any) -> str:
    if not isinstance(value, str) or value not in PRECISIONS:
        raise ConfigError(f"is {shown(value)}; expected one of {', '.join(PRECISIONS)}")
    return value


_OUTPUT_FIELDS = {"name": NAME, "kind": NAME, "stride": STRIDE}
_FIELDS: Mapping[str, Check] = {
    "model": NAME,
    "preprocessing": PREPROCESSING,
    "classes": NAMES,
    "num_classes": COUNT,
    "task": NAME,
    "outputs": _outputs,
    "min_size": SIDE,
    "precision": _precision,
    "extra": MAPPING,
    "version": TEXT,
    "thresholds": THRESHOLDS,
}
