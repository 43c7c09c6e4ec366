"""PaddleSeg's own YAML, read by its own parser, with what a run here needs beside it.

Two top-level keys are ours, and PaddleSeg's tools pass over them:

    classes: [background, cat, dog]     names for people, or the path of a file with one a line
    run: {save_interval: 500}           how `cyclemlp seg train` runs it, see `RunSettings`

Paths in a configuration are relative to the working directory, as PaddleSeg has it; `_base_` is relative to the file,
else to the shipped configurations.
"""

from __future__ import annotations

import contextlib
import copy
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import paddle
import yaml
from paddle.utils import unique_name
from paddleseg.cvlibs import Config, SegBuilder
from paddleseg.cvlibs.config import merge_config_dicts
from paddleseg.utils import logger

import cyclemlp.dense.seg  # noqa: F401  registers the backbones
from cyclemlp.data import read_class_names
from cyclemlp.dense.bases import read_with_bases, shipped_folder
from cyclemlp.dense.compat import apply_patches
from cyclemlp.dense.seg.masks import LabelChecked
from cyclemlp.errors import ConfigError, CycleMLPError, DataError
from cyclemlp.network.config import did_you_mean
from cyclemlp.text import counted, shown

#: Top-level keys that PaddleSeg 2.8 reads, and ours.
_ENGINE_KEYS = (
    *("batch_size", "iters", "train_dataset", "val_dataset", "optimizer", "lr_scheduler", "loss", "model"),
    *("test_config", "distill_loss", "to_static_training", "export"),
)
KNOWN_KEYS = (*_ENGINE_KEYS, "classes", "run")
_EXPONENT = re.compile(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+")


@dataclass(frozen=True)
class RunSettings:
    """The key `run`: how training runs, apart from what is trained.

    Attributes:
        save_interval: steps between two evaluations with a checkpoint after each.
        log_iters: steps between two lines of the log.
        workers: processes that read images; 0 for none.
        keep_checkpoints: how many of the newest checkpoints stay.
        seed: of everything random.
        precision: "fp32", or "fp16" for automatic mixed precision (on a GPU).
        amp_level: "O1" or "O2", of the latter.
    """

    save_interval: int = 1000
    log_iters: int = 10
    workers: int = 2
    keep_checkpoints: int = 2
    seed: int = 0
    precision: str = "fp32"
    amp_level: str = "O1"

    @classmethod
    def from_dict(cls, values: Any) -> RunSettings:
        """From the key's value; anything unknown or impossible is a ConfigError."""
        if not isinstance(values, Mapping):
            raise ConfigError(f"run is {values!r}; expected a mapping such as run: {{save_interval: 500}}")
        known = {f.name: f.default for f in fields(cls)}
        for key, value in values.items():
            if key not in known:
                raise ConfigError(
                    f"run.{key} is unknown{did_you_mean(str(key), list(known))}; known are {', '.join(known)}"
                )
            least = 0 if key in ("workers", "seed") else 1
            if isinstance(known[key], int) and (
                not isinstance(value, int) or isinstance(value, bool) or value < least
            ):
                raise ConfigError(f"run.{key} is {value!r}; it must be a whole number from {least}")
        settings = cls(**values)
        if settings.precision not in ("fp32", "fp16") or settings.amp_level not in ("O1", "O2"):
            raise ConfigError(
                f"run.precision is {settings.precision!r} and run.amp_level {settings.amp_level!r}; "
                "possible are fp32 or fp16, and O1 or O2"
            )
        return settings


class SegConfig(Config):
    """PaddleSeg's configuration, with overrides that may hold any YAML value.

    Made by `open_config`.

    Attributes:
        path: the file.
        run: how it runs.
    """

    def __init__(self, path: Path, overrides: Mapping[str, Any], data: str | None) -> None:
        self.path = path
        super().__init__(str(path), opts=(overrides, data))
        self.run = RunSettings.from_dict(self.dic.get("run", {}))

    @classmethod
    def _parse_from_yaml(cls, path: str, *unused: Any, **also: Any) -> dict[str, Any]:
        """The file's values and its bases'; called by PaddleSeg's constructor."""
        return read_with_bases(Path(path), key="_base_", shipped=shipped_folder("seg"), merge=_merge_bases)

    @classmethod
    def update_config_dict(
        cls, dic: dict[str, Any], *, opts: tuple[Mapping[str, Any], str | None], **unused: Any
    ) -> Any:
        """The file's values, changed as `open_config` says; called by PaddleSeg's constructor."""
        overrides, data = opts
        if data is not None:
            for key in ("train_dataset", "val_dataset"):
                if key in dic:
                    dic[key] = _moved(dic[key], data)
        for key, value in overrides.items():
            _put(dic, key, value)
        if "_BASE_" in dic:
            raise ConfigError("the key '_BASE_' is PaddleDetection's; PaddleSeg's is '_base_'")
        for key in dic:
            if key not in KNOWN_KEYS:
                hint = did_you_mean(str(key), KNOWN_KEYS)
                warnings.warn(
                    f"the key {key!r}{hint} has no effect: PaddleSeg 2.8 does not read it", stacklevel=2
                )
        return _numbers(dic)

    @property
    def num_classes(self) -> int:
        """K, of the model."""
        own = self.model_cfg.get("num_classes")
        count = own if own is not None else SegBuilder(self).train_dataset_class.NUM_CLASSES
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise ConfigError(
                f"{self.path}: model.num_classes is {shown(count)}; expected a whole number from 1"
            )
        return count

    @property
    def ignore_index(self) -> int:
        """The label of pixels that count for nothing."""
        dataset = SegBuilder(self).train_dataset_class
        return int(getattr(dataset, "IGNORE_INDEX", self.train_dataset_cfg.get("ignore_index", 255)))

    def class_names(self) -> list[str]:
        """Names of the K classes: those of `classes`, else numbers.

        Raises:
            ConfigError: not K names.
        """
        given = self.dic.get("classes")
        names = read_class_names(given) if isinstance(given, str) else given
        if names is None:
            return [str(index) for index in range(self.num_classes)]
        if len(names) != self.num_classes:
            raise ConfigError(
                f"{self.path}: classes gives {counted(len(names), 'name')}, and the model has "
                f"{counted(self.num_classes, 'class')}"
            )
        return [str(name) for name in names]

    def for_trained_weights(self) -> SegConfig:
        """The same, building a model that loads nothing by itself: its weights are to come from a trained one."""
        other = copy.copy(self)
        other.dic = {**self.dic, "model": _without(self.dic["model"], "pretrained")}
        return other

    def to_yaml(self) -> str:
        """The resolved configuration, which `open_config` and PaddleSeg's own tools read."""
        values = {**self.dic, "run": asdict(self.run)}
        return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def open_config(
    path: str | Path, overrides: Mapping[str, Any] | None = None, *, data: str | None = None
) -> SegConfig:
    """Read a configuration of PaddleSeg.

    Args:
        path: a YAML file.
        overrides: dotted key → value, as `--set` gives them: `{"optimizer.weight_decay": 0.01}`; a whole number in
            a key counts in a list: `train_dataset.transforms.0.target_size`.
        data: another folder in place of the datasets' `dataset_root`; the lists in it go with it.

    Raises:
        ConfigError: the file is missing, is no YAML, or PaddleSeg's checks refuse it.
    """
    path = Path(path)
    if not path.is_file():
        raise ConfigError(f"{path}: there is no such configuration file")
    if path.suffix not in (".yml", ".yaml"):
        raise ConfigError(f"{path}: PaddleSeg reads configurations from .yml and .yaml files only")
    try:
        return SegConfig(path, overrides or {}, data)
    except CycleMLPError:
        raise
    except Exception as error:  # PaddleSeg raises several kinds, the reason behind them
        raise ConfigError(f"{path}: PaddleSeg refuses it: {_reason(error)}") from error


class Builder:
    """Builds what a configuration names, by PaddleSeg's own builder, and says in words what is wrong.

    Args:
        config: from `open_config`.

    Raises:
        ConfigError, WeightsError, ModelError, DataError: from the properties, when they are first read.
    """

    def __init__(self, config: SegConfig) -> None:
        self.config = config
        self.patches = apply_patches("paddleseg")
        self._builder = SegBuilder(config)
        logger.log_level = 1  # warnings: PaddleSeg prints each part of the configuration

    @property
    def model(self) -> paddle.nn.Layer:
        """The whole model."""
        return self._build("model")

    @property
    def loss(self) -> dict[str, Any]:
        """PaddleSeg's losses: {"types": […], "coef": […]}, one each for every output of the model."""
        return self._build("loss")

    @property
    def optimizer(self) -> Any:
        """The optimizer of the model, with its schedule."""
        return self._build("optimizer")

    @property
    def train_dataset(self) -> Any:
        """Images to train on."""
        return self._dataset("train_dataset")

    @property
    def val_dataset(self) -> Any | None:
        """Images to evaluate on; None if the configuration names none."""
        return self._dataset("val_dataset") if self.config.val_dataset_cfg else None

    @property
    def transforms(self) -> list[Any]:
        """What evaluation does to an image before the model sees it."""
        if not self.config.val_dataset_cfg:
            raise ConfigError(f"{self.config.path}: no val_dataset, whose transforms prepare the images")
        return self._build("val_transforms")

    def _dataset(self, key: str) -> Any:
        check_paths(self.config, key)
        dataset = self._build(key)
        # Labels of ADE20K count from 1 in the files; its data set subtracts that after reading.
        dataset.transforms = LabelChecked(
            dataset.transforms, self.config.num_classes, self.config.ignore_index
        )
        return dataset

    def _build(self, what: str) -> Any:
        try:
            # Names of parameters count from 0: an optimizer's saved state is found by them.
            with unique_name.guard() if what == "model" else contextlib.nullcontext():
                return getattr(self._builder, what)
        except Exception as error:
            for cause in _causes(error):
                if isinstance(cause, CycleMLPError):
                    raise cause from error
            raise ConfigError(
                f"{self.config.path}: PaddleSeg cannot build {what}: {_reason(error)}"
            ) from error


def _merge_bases(values: dict[str, Any], bases: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A file over its bases, the earlier ones over the later ones."""
    for base in bases:
        values = merge_config_dicts(values, base)
    return values


def check_paths(config: SegConfig, key: str) -> None:
    """Whether the files and folders that a dataset names are there.

    PaddleSeg fetches some datasets, of gigabytes, if their folder is missing; here that is an error.

    Raises:
        DataError: with what is missing and what to do.
    """
    dataset = config.dic[key]
    for name in ("dataset_root", "train_path", "val_path", "test_path"):
        value = dataset.get(name)
        if value is not None and not Path(str(value)).exists():
            raise DataError(
                f"{config.path}: {key}.{name} is {value}, which does not exist (from {Path.cwd()}); put the data there "
                f"or say where they are: --data DIR, or --set {key}.{name}=PATH"
            )
    if dataset.get("type") != "Dataset" and dataset.get("dataset_root") is None:
        raise DataError(
            f"{config.path}: {key}.dataset_root is not set; say where the data are with --data DIR"
        )


def _put(values: Any, key: str, value: Any) -> None:
    """Set a dotted key in nested mappings and lists."""
    parts = key.split(".")
    place = values
    for depth, part in enumerate(parts):
        where = ".".join(parts[:depth])
        index: Any = part
        if isinstance(place, list):
            if not part.isdecimal() or int(part) >= len(place):
                raise ConfigError(f"--set {key}: {where} is a list of {len(place)}; give a number below that")
            index = int(part)
        elif not isinstance(place, dict):
            raise ConfigError(f"--set {key}: {where} is {place!r}, not a mapping")
        elif depth == 0 and part not in place and part not in KNOWN_KEYS:
            hint = did_you_mean(part, KNOWN_KEYS)
            raise ConfigError(
                f"--set {key}: there is no key {part!r}{hint}; known are {', '.join(KNOWN_KEYS)}"
            )
        if depth == len(parts) - 1:
            place[index] = value
            return
        if isinstance(place, dict):
            place.setdefault(part, {})
        # A copy: what a YAML alias shares with another place is not changed there.
        place[index] = _copy(place[index])
        place = place[index]


def _moved(dataset: Mapping[str, Any], data: str) -> dict[str, Any]:
    """A dataset's values with another `dataset_root`, and with the lists that lay in the old one."""
    old = str(dataset.get("dataset_root", "")).rstrip("/") + "/"
    moved = {**dataset, "dataset_root": data}
    for name in ("train_path", "val_path", "test_path"):
        if str(dataset.get(name, "")).startswith(old):
            moved[name] = str(Path(data, str(dataset[name]).removeprefix(old)))
    return moved


def _without(value: Any, key: str) -> Any:
    """A copy without a key, at every depth."""
    if isinstance(value, dict):
        return {name: _without(item, key) for name, item in value.items() if name != key}
    return [_without(item, key) for item in value] if isinstance(value, list) else value


def _copy(value: Any) -> Any:
    return value.copy() if isinstance(value, dict | list) else value


def _numbers(value: Any) -> Any:
    """YAML 1.1 reads 2e-4 as text, and PaddleSeg fails on it somewhere later: here it is a number."""
    if isinstance(value, dict):
        return {key: _numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_numbers(item) for item in value]
    return float(value) if isinstance(value, str) and _EXPONENT.fullmatch(value) else value


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and those that led to it, the outermost first."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _reason(error: BaseException) -> str:
    """What the innermost error says."""
    innermost = list(_causes(error))[-1]
    return f"{innermost}".strip().splitlines()[0] if str(innermost).strip() else type(innermost).__name__
