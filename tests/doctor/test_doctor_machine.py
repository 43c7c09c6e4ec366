"""Facts for a bug report: complete, and without anything private."""

from __future__ import annotations

import getpass
import json
import re
import socket
from pathlib import Path
from types import SimpleNamespace

import paddle
import pytest

from cyclemlp.doctor import machine
from cyclemlp.doctor.machine import EXTRAS, machine_facts, paddle_build

ROOT = Path(__file__).parents[2]


def test_facts_of_this_machine():
    facts = machine_facts("cpu")
    assert list(facts) == ["versions", "processor", "devices", "kernels", "settings"]
    assert paddle.__version__ in facts["versions"]["paddle"]
    assert "built for the CPU" in facts["versions"]["paddle"]
    assert facts["devices"] == {"checked": "cpu", "seen by Paddle": ["cpu"]}
    assert facts["processor"]["cores"] >= 1
    assert set(facts["settings"]["tuning"]) == {"memory", "BLAS", "threads"}
    text = json.dumps(facts)
    for private in (socket.gethostname(), str(Path.home()), str(ROOT)):
        assert private in ("", "/") or private not in text
    assert len(getpass.getuser()) < 5 or getpass.getuser() not in text


def test_extras_are_those_of_the_package():
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    section = text.partition("[project.optional-dependencies]\n")[2].partition("\n[")[0]
    found = {
        name: tuple(re.findall(r'"([\w-]+)[><=]', names))
        for name, names in re.findall(r"^(\w+) = \[([^\]]*)\]", section, re.MULTILINE)
        if name not in ("cpu", "docs", "notebook", "test")
    }
    assert found == EXTRAS


def test_an_extra_that_is_missing_is_told(monkeypatch):
    versions = {"simplejpeg": "1.7"}
    monkeypatch.setattr(machine, "_installed", versions.get)
    extras = machine._versions()
    assert extras["extra fast"] == "simplejpeg 1.7, cykooz-resizer not installed"
    assert extras["extra plot"] == "not installed"


@pytest.fixture
def gpus(monkeypatch):
    monkeypatch.setattr(paddle, "is_compiled_with_cuda", lambda: True)
    monkeypatch.setattr(paddle.device.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(paddle.version, "cuda", lambda: "12.6")

    def properties(number):
        if number:
            raise RuntimeError("no such function")
        return SimpleNamespace(
            name="A GPU", major=8, minor=0, total_memory=40 * 2**30, multi_processor_count=108
        )

    monkeypatch.setattr(paddle.device.cuda, "get_device_properties", properties)


def test_gpus_are_told_even_if_paddle_does_not_know_them(gpus):
    assert machine._devices() == [
        "cpu",
        "gpu:0 A GPU, compute capability 8.0, 40.0 GiB, 108 multiprocessors",
        "gpu:1, whose properties Paddle does not tell (RuntimeError)",
    ]
    assert paddle_build().startswith("built for CUDA 12.6, cuDNN ")


def test_rocm_is_no_cuda(gpus, monkeypatch):
    monkeypatch.setattr(paddle, "is_compiled_with_rocm", lambda: True)
    monkeypatch.setattr(paddle.version, "hip", None, raising=False)
    assert paddle_build() == "built for ROCm unknown"
