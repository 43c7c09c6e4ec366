"""Signals are taken when the run can be saved; the launcher's repeated SIGTERM is one wish to stop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import paddle
import pytest

from cyclemlp.training.interruption import Interruption

ROOT = Path(__file__).parents[2]


def send(number: int) -> None:
    os.kill(os.getpid(), number)


def test_the_first_is_noted_and_said_once(capfd):
    with Interruption() as interruption:
        for _ in range(3):  # as Paddle's launcher does
            send(signal.SIGTERM)
        assert interruption.signal == signal.SIGTERM
    assert capfd.readouterr().err.count("stopping after this step") == 1
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_after_it_stops_at_once(first):
    with Interruption() as interruption:
        send(first)
        assert interruption.signal == first
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)
        assert interruption.signal == first


def test_work_that_may_be_dropped_is(capfd):
    def work():
        send(signal.SIGTERM)
        raise AssertionError("the work went on")

    with Interruption() as interruption:
        assert interruption.unless_stopped(lambda: 1) == 1
        assert interruption.unless_stopped(work) is None
        send(signal.SIGTERM)  # the launcher's second one, while the run is being saved
        assert interruption.unless_stopped(lambda: 1) is None
        assert interruption.signal == signal.SIGTERM


def test_a_ctrl_c_that_is_not_ours_passes(capfd):
    with Interruption() as interruption, pytest.raises(KeyboardInterrupt):
        interruption.unless_stopped(lambda: (_ for _ in ()).throw(KeyboardInterrupt))


def test_it_may_come_in_the_middle_of_a_line():
    # With print in the handler this ends with "reentrant call inside <_io.BufferedWriter name='<stderr>'>".
    code = f"""
import io, os, signal, sys
sys.path.insert(0, {str(ROOT)!r})
from cyclemlp.training.interruption import Interruption
class Raw(io.FileIO):
    def write(self, data):
        os.kill(os.getpid(), signal.SIGTERM)
        return super().write(data)
sys.stderr = io.TextIOWrapper(io.BufferedWriter(Raw(2, "w", closefd=False)), line_buffering=True)
with Interruption() as interruption:
    print("epoch 1", file=sys.stderr)
print(interruption.signal == signal.SIGTERM)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "True\n", done.stderr
    assert "stopping after this step" in done.stderr
    assert "epoch 1" in done.stderr


def test_what_paddle_makes_of_a_second_ctrl_c_is_a_ctrl_c(capfd):
    """Paddle wraps what a Python function raises within `backward` in an OSError."""

    class Interrupting(paddle.autograd.PyLayer):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, grad):
            send(signal.SIGINT)
            return grad

    def step():
        x = paddle.ones([2])
        x.stop_gradient = False
        Interrupting.apply(x).sum().backward()

    def twice():
        with Interruption():
            send(signal.SIGINT)
            step()

    with pytest.raises(KeyboardInterrupt):
        twice()
    with Interruption() as interruption:
        assert interruption.unless_stopped(step) is None


def test_an_error_without_a_second_signal_stays_what_it_is(capfd):
    def full():
        with Interruption():
            send(signal.SIGINT)
            raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        full()
