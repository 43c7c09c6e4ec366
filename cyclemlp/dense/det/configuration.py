"""PaddleDetection's YAML files: read by its own parser, overridden, checked, and made the engine's current one.

The engine keeps one configuration for the whole process, its `global_config`, and loading a second file mixes the two.
A `Configuration` is the content of one file, and `activate` makes it the only one.
"""

from __future__ import annotations

import codecs
import copy
import json
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from ppdet.core.config.schema import SchemaDict
from ppdet.core.workspace import dict_merge, global_config, merge_config

from cyclemlp.dense.bases import read_with_bases, shipped_folder
from cyclemlp.dense.detections import Category
from cyclemlp.errors import ConfigError, DataError
from cyclemlp.network.config import did_you_mean
from cyclemlp.text import counted, printable, shortened, shown

#: The largest published COCO files, of millions of objects with their outlines, have one and a half GB.
MAX_BYTES = 4 << 30
#: Keys beside the modules' names that the engine or our commands read.
TOP_KEYS = frozenset(
    (
        *("architecture", "num_classes", "metric", "bias", "pretrain_weights", "weights", "filename"),
        *("epoch", "snapshot_epoch", "log_iter", "worker_num", "save_dir", "use_gpu"),
        *("use_ema", "ema_decay", "ema_decay_type", "ema_black_list", "ema_filter_no_grad", "cycle_epoch"),
        *("amp", "amp_level", "custom_white_list", "custom_black_list", "init_loss_scaling"),
        *(
            "norm_type",
            "find_unused_parameters",
            "use_fused_allreduce_gradients",
            "to_static",
            "assign_on_cpu",
        ),
        *("export", "export_onnx", "draw_threshold", "hidden_dim", "use_cot"),
    )
)


#: Top keys that are whole numbers, and the least.
WHOLE_NUMBERS = {"num_classes": 1, "epoch": 1, "snapshot_epoch": 1, "log_iter": 1, "worker_num": 0}


@dataclass(frozen=True)
class CocoFiles:
    """Where the images and the truth of a data set are, as a configuration says.

    Attributes:
        key: the configuration's key, such as "TrainDataset".
        annotations: a COCO JSON file.
        images: the folder to which the file names in it are relative.
    """

    key: str
    annotations: Path
    images: Path


class Configuration:
    """What one YAML file and its bases say, with overrides.

    Args:
        path: the file, for messages.
        values: module name or top key → its value; what is not there has the engine's default.
    """

    def __init__(self, path: Path, values: dict[str, Any]) -> None:
        self.path, self.values = path, values
        self._check()

    @classmethod
    def load(
        cls, path: Path, overrides: Mapping[str, Any] | None = None, *, epochs: int | None = None
    ) -> Configuration:
        """Read a file and, by the engine's rules, those that its `_BASE_` names.

        Args:
            path: a .yml or .yaml file.
            overrides: dotted key → value, such as `{"TrainReader.batch_size": 4}`; a number is a place in a list.
            epochs: train for so many; the learning-rate schedule is stretched to them.

        Raises:
            ConfigError: the file cannot be read, or holds or is given something unknown.
        """
        if not path.is_file():
            raise ConfigError(
                f"{path}: there is no such configuration; configs/det/ holds those of this project"
            )
        if path.suffix not in (".yml", ".yaml"):
            raise ConfigError(f"{path}: PaddleDetection reads configurations named *.yml or *.yaml")
        _reset()
        written = read_with_bases(path, key="_BASE_", shipped=shipped_folder("det"), merge=_merge_bases)
        _require_options(path, written)
        try:
            merge_config(written)
        except (AttributeError, TypeError, ValueError) as error:  # a number where a module has its options
            if isinstance(error, ConfigError):
                raise
            raise ConfigError(f"{path}: PaddleDetection refuses it: {error}") from None
        values = {
            key: dict(value) if isinstance(value, SchemaDict) else value
            for key, value in global_config.items()
            if not isinstance(value, SchemaDict) or dict(value)
        }
        values = copy.deepcopy(values)
        if epochs is not None:
            _stretch(values, epochs)
        for key, value in (overrides or {}).items():
            _set(values, key, value)
        return cls(path, values)

    def activate(self) -> Any:
        """Make this the engine's configuration, and return it: a mapping whose keys are attributes too."""
        _reset()
        merge_config(copy.deepcopy(self.values))
        global_config.filename = self.path.stem
        global_config.setdefault("log_iter", 20)
        global_config.setdefault("snapshot_epoch", 1)
        global_config.setdefault("save_dir", "output")  # read by the engine, and not used
        for device in ("use_gpu", "use_npu", "use_mlu", "use_xpu"):
            global_config.setdefault(device, False)
        return global_config

    def to_yaml(self) -> str:
        """The whole configuration, which `load` and PaddleDetection's own tools read."""
        values = {key: value for key, value in self.values.items() if key != "filename"}
        return str(yaml.dump(values, sort_keys=False, allow_unicode=True))

    def has_masks(self) -> bool:
        """Whether the architecture gives a mask an object."""
        return "mask_head" in (self.values.get(self.architecture) or {})

    @property
    def architecture(self) -> str:
        """Name of the engine's architecture, such as "MaskRCNN"."""
        return str(self.values["architecture"])

    @property
    def num_classes(self) -> int:
        """Number of classes of objects."""
        return int(self.values["num_classes"])

    def data(self, key: str) -> CocoFiles:
        """The files of "TrainDataset" or "EvalDataset", looked at.

        Raises:
            ConfigError: the data set is not described, or not in COCO's form.
            DataError: a file or folder does not exist.
        """
        root = Path(self.option(key, "dataset_dir") or "")
        files = CocoFiles(key, self.annotations(key), root / (self.option(key, "image_dir") or ""))
        if not root.is_dir():
            raise DataError(
                f"{self.path}: {key}.dataset_dir is {str(root)!r}, which does not exist; put the data there, or say "
                f"where they are: --set {key}.dataset_dir=DIR"
            )
        if not files.annotations.is_file():
            raise DataError(f"{self.path}: {key}.anno_path: there is no file {files.annotations}")
        if not files.images.is_dir():
            raise DataError(f"{self.path}: {key}.image_dir: there is no folder {files.images}")
        return files

    def annotations(self, key: str) -> Path:
        """The COCO file of "TrainDataset" or "EvalDataset", which need not be there.

        Raises:
            ConfigError: the data set is not described, or not in COCO's form.
        """
        path = self._path(key, "anno_path")
        if path is None:
            raise ConfigError(
                f"{self.path}: {key} has no anno_path, a COCO JSON file relative to dataset_dir"
            )
        if path.suffix != ".json":  # the engine asserts it
            raise ConfigError(
                f"{self.path}: {key}.anno_path is {shown(str(path))}; COCO files are named *.json"
            )
        return path

    def categories(self, key: str) -> list[Category]:
        """The classes of a data set in the order of the network's outputs.

        Raises:
            ConfigError, DataError: from `data`, or the file names another number of classes than `num_classes`.
        """
        files = self.data(key)
        found = read_categories(files.annotations)
        if len(found) != self.num_classes:
            names = ", ".join(category.name for category in found[:8]) + (" …" if len(found) > 8 else "")
            raise ConfigError(
                f"{self.path}: num_classes is {self.num_classes}, but {files.annotations} has "
                f"{counted(len(found), 'category')} ({names}); give --set num_classes={len(found)}"
            )
        return found

    def categories_for_test(self) -> list[Category] | None:
        """The classes that "TestDataset" or else "EvalDataset" names, if its file is there."""
        for key in ("TestDataset", "EvalDataset"):
            path = self._path(key, "anno_path")
            if path is not None and path.is_file() and path.suffix == ".json":
                found = read_categories(path)
                if len(found) == self.num_classes:
                    return found
        return None

    def _path(self, key: str, option: str) -> Path | None:
        """A file that a data set's option names, relative to its `dataset_dir`."""
        name = self.option(key, option)
        return None if not name else Path(self.option(key, "dataset_dir") or "") / name

    def option(self, key: str, option: str) -> Any:
        """Of a data set: a mapping with `name`, or an object that a YAML tag such as !COCODataSet made."""
        dataset = self.values.get(key)
        if dataset is None:
            raise ConfigError(f"{self.path} has no {key}; describe it as configs/det/own_data.yaml does")
        return dataset.get(option) if isinstance(dataset, Mapping) else getattr(dataset, option, None)

    def _check(self) -> None:
        """Find what the engine would pass over or crash on.

        Raises:
            ConfigError: something unknown or missing.
        """
        modules = [name for name, value in global_config.items() if isinstance(value, SchemaDict)]
        for key in ("architecture", "num_classes"):
            if key not in self.values:
                raise ConfigError(f"{self.path}: it says nothing of {key}")
        _require_options(self.path, self.values)
        self._check_values()
        if self.architecture not in modules:
            hint = did_you_mean(self.architecture, modules)
            raise ConfigError(f"{self.path}: PaddleDetection has no architecture {self.architecture!r}{hint}")
        if self.has_masks() and (self.values.get("EvalReader") or {}).get("batch_size", 1) != 1:
            raise ConfigError(
                f"{self.path}: EvalReader.batch_size must be 1: the engine's {self.architecture} mixes the masks of "
                "several images up if one of them has no find"
            )
        for key, value in self.values.items():
            if key in TOP_KEYS or key not in modules:
                if key not in TOP_KEYS and key[:1].isupper():
                    raise ConfigError(
                        f"{self.path}: PaddleDetection has no module {key!r}{did_you_mean(key, modules)}"
                    )
                continue
            schema = global_config[key]
            unknown = set(value) - set(schema.schema) if schema.strict and isinstance(value, Mapping) else ()
            for option in sorted(unknown):
                known = list(schema.schema)
                raise ConfigError(
                    f"{self.path}: {key} has no option {option!r}{did_you_mean(option, known)}; it has "
                    f"{', '.join(known)}"
                )

    def _check_values(self) -> None:
        """Refuse values of the wrong type, with which the engine stops somewhere else.

        Raises:
            ConfigError: with the key.
        """
        for key, least in WHOLE_NUMBERS.items():
            _require_whole(f"{self.path}: {key}", self.values.get(key, least), least)
        for key in ("TrainReader", "EvalReader", "TestReader"):
            reader = self.values.get(key)
            if isinstance(reader, Mapping):
                _require_whole(f"{self.path}: {key}.batch_size", reader.get("batch_size", 1), 1)
                for option in ("sample_transforms", "batch_transforms"):
                    _require_transforms(f"{self.path}: {key}.{option}", reader.get(option, []))
        for key in ("TrainDataset", "EvalDataset", "TestDataset"):
            if self.values.get(key) is None:
                continue
            for option in ("dataset_dir", "image_dir", "anno_path"):
                value = self.option(key, option)
                if value is not None and (not isinstance(value, str) or "\0" in value):
                    raise ConfigError(f"{self.path}: {key}.{option} is {shown(value)}; expected a path")
        fields = self.option("TrainDataset", "data_fields") if self.values.get("TrainDataset") else None
        if fields is not None and not {"image", "gt_bbox", "gt_class"} <= set(fields):
            raise ConfigError(
                f"{self.path}: TrainDataset.data_fields is {shown(fields)}; training needs at least image, gt_bbox and "
                "gt_class"
            )


def _require_options(path: Path, values: Mapping[str, Any]) -> None:
    """Refuse a module whose value holds no options; merged, it would take the module's place in the engine for good.

    Raises:
        ConfigError: with the module's name.
    """
    for key, value in values.items():
        plain = value is None or isinstance(value, str | int | float | list)
        if plain and isinstance(global_config.get(key), SchemaDict):
            hint = (
                "describe it as configs/det/own_data.yaml does"
                if "Dataset" in key
                else "expected its options"
            )
            raise ConfigError(f"{path}: {key} is {shown(value)}; {hint}")


def _require_whole(what: str, value: Any, least: int) -> None:
    if type(value) is not int or not least <= value < 2**31:
        raise ConfigError(f"{what} is {shown(value)}; expected a whole number from {least}")


def _require_transforms(what: str, value: Any) -> None:
    if not isinstance(value, list) or not all(isinstance(one, Mapping) and len(one) == 1 for one in value):
        raise ConfigError(f"{what} is {shown(value)}; expected a list such as [Decode: {{}}, Permute: {{}}]")


def read_categories(path: Path) -> list[Category]:
    """The categories of a COCO file in its order, by which the engine numbers its outputs.

    Raises:
        DataError: the file is not JSON or has no categories.
    """
    content = read_coco(path)
    try:
        return [Category(int(c["id"]), str(c["name"])) for c in content["categories"]]
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{path}: its categories cannot be read ({error!r}); COCO has a list of id and name"
        ) from None


def read_coco(path: Path) -> dict[str, Any]:
    """The content of a COCO file.

    Raises:
        DataError: it cannot be read, is larger than `MAX_BYTES`, is none that PaddleDetection can read, or no JSON
            object.
    """
    where = printable(str(path), lines=False)
    try:
        if not path.is_file():  # reading a pipe may never end
            raise DataError(f"{where}: {'is no regular file' if path.exists() else 'there is no such file'}")
        if path.stat().st_size > MAX_BYTES:
            raise DataError(f"{where}: has more than {MAX_BYTES:,} bytes, which is no COCO file")
        content = json.loads(_decoded(path.read_bytes(), where))
    except OSError as error:
        raise DataError(f"{where}: cannot be read: {error.strerror or error}") from None
    except RecursionError:
        raise DataError(f"{where}: nested so deep that it is no COCO file") from None
    except ValueError as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{where}: not JSON: {shortened(printable(str(error), lines=False))}") from None
    if not isinstance(content, dict):
        raise DataError(
            f"{where}: holds a {type(content).__name__}; a COCO file is an object with images, annotations"
        )
    return content


def _decoded(content: bytes, where: str) -> str:
    """Text of a COCO file, which COCO's own program reads as UTF-8 without a byte order mark."""
    if content.startswith(codecs.BOM_UTF8):
        raise DataError(
            f"{where}: begins with a byte order mark, on which PaddleDetection stops; save it as UTF-8 without one "
            "(`sed -i '1s/^\\xEF\\xBB\\xBF//' FILE`)"
        )
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: not UTF-8 at byte {error.start}; save it as UTF-8") from None


def _merge_bases(values: dict[str, Any], bases: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A file over its bases, the later ones over the earlier ones."""
    merged: dict[str, Any] = {}
    for part in (*bases, values):
        dict_merge(merged, part)
    return merged


def _reset() -> None:
    """Take every configuration out of the engine; the modules' own defaults stay."""
    for key, value in list(global_config.items()):
        if isinstance(value, SchemaDict):
            value.clear()
        else:
            del global_config[key]


def _set(values: dict[str, Any], key: str, value: Any) -> None:
    """Set the value at a dotted key.

    Raises:
        ConfigError: there is no such place, and no module could have it.
    """
    *parents, last = key.split(".")
    place: Any = values
    for depth, part in enumerate(parents):
        known = list(place) if isinstance(place, Mapping) else []
        if isinstance(place, list) and part.isdecimal() and int(part) < len(place):
            place = place[int(part)]
        elif isinstance(place, Mapping) and part in place:
            place = place[part]
        elif depth == 0 and isinstance(global_config.get(part), SchemaDict):
            place = values.setdefault(part, {})
        else:
            raise ConfigError(
                f"--set {key}: there is no {'.'.join(parents[: depth + 1])}{did_you_mean(part, known)}"
            )
    if isinstance(place, list) and last.isdecimal() and int(last) < len(place):
        place[int(last)] = value
    elif isinstance(place, MutableMapping):
        if not parents and last not in values and last not in TOP_KEYS and last not in global_config:
            raise ConfigError(
                f"--set {key}: the engine reads no such key{did_you_mean(last, [*values, *TOP_KEYS])}"
            )
        place[last] = value
    elif hasattr(place, last):  # made by a YAML tag
        setattr(place, last, value)
    else:
        raise ConfigError(f"--set {key}: {'.'.join(parents)} is {place!r}, which has no {last}")


def _stretch(values: dict[str, Any], epochs: int) -> None:
    """Train for `epochs`, with the schedule's epochs in the same proportion as before."""
    before = values.get("epoch")
    values["epoch"] = epochs
    schedule = values.get("LearningRate")
    schedulers = schedule.get("schedulers") if isinstance(schedule, Mapping) else None
    for scheduler in schedulers or []:
        get, put = _accessors(scheduler)
        if get("milestones") and before:
            put("milestones", [round(m * epochs / before) for m in get("milestones")])
        if get("max_epochs"):
            put("max_epochs", round(get("max_epochs") * epochs / before) if before else epochs)


def _accessors(thing: Any) -> tuple[Any, Any]:
    if isinstance(thing, MutableMapping):
        return thing.get, thing.__setitem__
    return (lambda name: getattr(thing, name, None)), (lambda name, value: setattr(thing, name, value))
