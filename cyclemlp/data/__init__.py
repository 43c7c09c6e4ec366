"""Pictures: where they come from, how they become a network's input, how they are read in batches."""

from cyclemlp.data.augment import parse_auto_augment
from cyclemlp.data.classes import imagenet_class_map, imagenet_classes, read_class_map, read_class_names
from cyclemlp.data.digits import Digits
from cyclemlp.data.folders import ImageFolder, PictureFiles
from cyclemlp.data.imagenet import open_imagenet, open_pictures
from cyclemlp.data.list_file import ListFile
from cyclemlp.data.loader import Batch, Failure, Loader, build_loader
from cyclemlp.data.mixup import Mixup, step_generator
from cyclemlp.data.scenes import SceneOptions, Scenes, write_scenes
from cyclemlp.data.sources import Sample, Source
from cyclemlp.data.tars import TarFolders, TarListFile, TarPictures, is_tar
from cyclemlp.data.transforms import Transform, evaluation_transform, training_transform

__all__ = [
    "Batch",
    "Digits",
    "Failure",
    "ImageFolder",
    "ListFile",
    "Loader",
    "Mixup",
    "PictureFiles",
    "Sample",
    "SceneOptions",
    "Scenes",
    "Source",
    "TarFolders",
    "TarListFile",
    "TarPictures",
    "Transform",
    "build_loader",
    "evaluation_transform",
    "imagenet_class_map",
    "imagenet_classes",
    "is_tar",
    "open_imagenet",
    "open_pictures",
    "parse_auto_augment",
    "read_class_map",
    "read_class_names",
    "step_generator",
    "training_transform",
    "write_scenes",
]
