"""Facts of the machine and of what is installed, as a bug report needs them: no path, and no name of a user or host."""

from __future__ import annotations

import platform
from importlib import metadata
from typing import Any

import paddle

from cyclemlp._tune import environment_of_the_user, processor_facts, tuning_facts
from cyclemlp._version import __version__
from cyclemlp.kernels import describe_kernels

#: What each extra of the package brings, but for those of development; `pyproject.toml` has the same.
EXTRAS = {
    "plot": ("matplotlib",),
    "digits": ("scikit-learn",),
    "imagenet": ("scipy",),
    "robustness": ("imagecorruptions-imaug",),
    "statistics": ("scipy",),
    "fast": ("simplejpeg", "cykooz-resizer"),
    "heic": ("pi-heif",),
    "export": ("paddle2onnx", "onnxruntime", "openvino", "ml-dtypes"),
    "serve": ("fastapi", "h11", "prometheus-client", "python-multipart", "uvicorn"),
    "tensorboard": ("tensorboardX",),
    "visualdl": ("visualdl",),
}
#: Variables that change what is computed, where or how fast, and whose values name no place on the disk.
VARIABLES = (
    *("CYCLEMLP_KERNELS", "CYCLEMLP_TUNE", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "MKL_DEBUG_CPU_TYPE"),
    *("GLIBC_TUNABLES", "NVIDIA_TF32_OVERRIDE", "CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"),
    *("CUDA_LAUNCH_BLOCKING", "NCCL_DEBUG", "NCCL_P2P_DISABLE", "NCCL_IB_DISABLE", "NCCL_SOCKET_IFNAME"),
    *("FLAGS_cudnn_deterministic", "FLAGS_cudnn_exhaustive_search", "FLAGS_use_mkldnn", "FLAGS_use_onednn"),
    *("FLAGS_allocator_strategy", "FLAGS_fraction_of_gpu_memory_to_use", "FLAGS_check_nan_inf"),
)


def machine_facts(device: str) -> dict[str, Any]:
    """Versions, processor, devices, implementation of the layers, settings; in the order in which they are printed.

    Args:
        device: where the checks compute.
    """
    environment = environment_of_the_user()  # Paddle sets OMP_NUM_THREADS=1
    settings = {name: environment[name] for name in VARIABLES if name in environment}
    return {
        "versions": _versions(),
        "processor": processor_facts(),
        "devices": {"checked": device, "seen by Paddle": _devices()},
        "kernels": describe_kernels(),
        "settings": {"environment": settings or None, "tuning": tuning_facts()},
    }


def _versions() -> dict[str, Any]:
    return {
        "paddle-cyclemlp": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "paddle": f"{paddle.__version__}, {paddle_build()}, commit {paddle.version.commit[:10]}",
        "numpy": _installed("numpy"),
        "pillow": _installed("pillow"),
        **{f"extra {extra}": _extra(names) for extra, names in EXTRAS.items()},
    }


def paddle_build() -> str:
    """For which devices the installed Paddle was built, with the versions of its libraries."""
    if paddle.is_compiled_with_rocm():
        return f"built for ROCm {_version_of('hip')}"
    if paddle.is_compiled_with_cuda():
        libraries = (f"{word} {_version_of(name)}" for word, name in (("cuDNN", "cudnn"), ("NCCL", "nccl")))
        return f"built for CUDA {_version_of('cuda')}, {', '.join(libraries)}"
    return "built for the CPU"


def _version_of(library: str) -> str:
    try:
        return str(getattr(paddle.version, library)())
    except Exception:  # not in every version of Paddle
        return "unknown"


def _devices() -> list[str]:
    devices = ["cpu"]
    if paddle.is_compiled_with_cuda():  # that of ROCm too
        devices += [_gpu(number) for number in range(paddle.device.cuda.device_count())]
    return devices


def _gpu(number: int) -> str:
    try:
        facts = paddle.device.cuda.get_device_properties(number)
        return (
            f"gpu:{number} {facts.name}, compute capability {facts.major}.{facts.minor}, "
            f"{facts.total_memory / 2**30:.1f} GiB, {facts.multi_processor_count} multiprocessors"
        )
    except Exception as error:  # the report goes on
        return f"gpu:{number}, whose properties Paddle does not tell ({type(error).__name__})"


def _extra(names: tuple[str, ...]) -> str:
    found = {name: _installed(name) for name in names}
    if not any(found.values()):
        return "not installed"
    return ", ".join(f"{name} {version or 'not installed'}" for name, version in found.items())


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
