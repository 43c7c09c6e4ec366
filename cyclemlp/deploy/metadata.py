"""What travels along with an exported model, so that a stranger can use it. Without Paddle.

Where it lies: in an ONNX file's `metadata_props`, in an OpenVINO model's `rt_info`, and beside a Paddle Inference
model in `metadata.json`; each time as one JSON text under the same name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from cyclemlp.errors import CycleMLPError
from cyclemlp.preprocessing import Preprocessing

#: The name of the entry in `metadata_props` and `rt_info`.
KEY = "cyclemlp"
_FORMAT = 1


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
        preprocessing: how pictures become its input.
        classes: names of the classes in the order of the logits, if known.
        num_classes: length of the logits; None if there are none.
        task: "classification", "features", or another word of who exported it, such as "segmentation".
        outputs: in the order of the file.
        min_size: least height and width of a picture, in pixels.
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

    def to_json(self) -> str:
        """As the text that is kept in the file."""
        values = {"format": _FORMAT, **asdict(self), "preprocessing": self.preprocessing.to_dict()}
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
            values = json.loads(text)
            if not isinstance(values, Mapping):
                raise TypeError("not an object")
            values = dict(values)
            version = values.pop("format", None)
            if version != _FORMAT:
                raise ExportError(
                    f"{place} has metadata of format {version}; this version reads {_FORMAT}: upgrade paddle-cyclemlp"
                )
            values["preprocessing"] = Preprocessing.from_dict(values["preprocessing"])
            values["outputs"] = [Output(**output) for output in values["outputs"]]
            return cls(**values)
        except ExportError:
            raise
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise ExportError(f"{place} has damaged metadata ({error}); export the model again") from error
