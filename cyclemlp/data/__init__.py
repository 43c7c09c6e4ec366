"""Images: where they come from, how they become a network's input, how they are read in batches."""

from cyclemlp.data.augment import parse_auto_augment
from cyclemlp.data.check import DataReport, Finding, check_data
from cyclemlp.data.classes import imagenet_class_map, imagenet_classes, read_class_map, read_class_names
from cyclemlp.data.digits import Digits
from cyclemlp.data.folders import ImageFiles, ImageFolder, find_split
from cyclemlp.data.imagenet import find_imagenet, open_imagenet, open_images
from cyclemlp.data.list_file import ListFile
from cyclemlp.data.loader import Batch, Failure, Loader, build_loader
from cyclemlp.data.mixup import Mixup, step_generator
from cyclemlp.data.opening import data_folder, open_class_map, open_class_names, open_source
from cyclemlp.data.pairing import View, pair_classes
from cyclemlp.data.scenes import SceneOptions, Scenes, write_scenes
from cyclemlp.data.sources import Sample, Source, class_counts, is_multi_label, label_text, labels_of
from cyclemlp.data.splitting import Split, split_source, write_split
from cyclemlp.data.tars import TarFolders, TarImages, TarListFile, is_tar
from cyclemlp.data.transforms import Transform, evaluation_transform, training_transform

__all__ = [
    "Batch",
    "DataReport",
    "Digits",
    "Failure",
    "Finding",
    "ImageFiles",
    "ImageFolder",
    "ListFile",
    "Loader",
    "Mixup",
    "Sample",
    "SceneOptions",
    "Scenes",
    "Source",
    "Split",
    "TarFolders",
    "TarImages",
    "TarListFile",
    "Transform",
    "View",
    "build_loader",
    "check_data",
    "class_counts",
    "data_folder",
    "evaluation_transform",
    "find_imagenet",
    "find_split",
    "imagenet_class_map",
    "imagenet_classes",
    "is_multi_label",
    "is_tar",
    "label_text",
    "labels_of",
    "open_class_map",
    "open_class_names",
    "open_imagenet",
    "open_images",
    "open_source",
    "pair_classes",
    "parse_auto_augment",
    "read_class_map",
    "read_class_names",
    "split_source",
    "step_generator",
    "training_transform",
    "write_scenes",
    "write_split",
]
