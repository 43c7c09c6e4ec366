"""Progress: a bar on a terminal, few plain lines elsewhere, nothing when disabled."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import select
import struct
import termios
import time

import pytest

from cyclemlp.report import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test moves."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def run(items, seconds_each, clock, **options):
    out = io.StringIO()
    for _ in progress(items, desc="epoch 1/3", unit="batch", file=out, **options):
        clock[0] += seconds_each
    return out.getvalue().splitlines()


def test_the_items_pass_through_in_order():
    assert list(progress([3, 1, 2], file=io.StringIO())) == [3, 1, 2]


def test_a_file_gets_a_line_each_tenth_without_control_characters(clock):
    lines = run(range(200), 1.0, clock)
    assert len(lines) == 10
    assert lines[0].startswith("epoch 1/3:  10% 20/200 [00:20<03:00")
    assert lines[-1].startswith("epoch 1/3: 100% 200/200")
    assert not any(c < " " for line in lines for c in line)


def test_a_short_task_gets_one_line_and_a_slow_one_a_line_in_thirty_seconds(clock):
    assert len(run(range(200), 0.01, clock)) == 1
    assert len(run(range(20), 31.0, clock)) == 20
    assert len(run(iter(range(100)), 1.0, clock)) == 4  # no length: only the clock counts, and the last line


def test_without_leave_the_last_line_is_left_out(clock):
    assert run(range(200), 0.01, clock, leave=False) == []


def test_disabled_shows_nothing_on_either(clock):
    for out in (io.StringIO(), Terminal()):
        assert len(list(progress(range(5), file=out, disable=True))) == 5
        assert out.getvalue() == ""


def test_figures_stand_in_the_line_and_on_the_bar():
    for out in (io.StringIO(), Terminal()):
        bar = progress(range(3), desc="train", file=out)
        for _ in bar:
            bar.figures(loss=0.123456, lr=1e-3, note="ok")
        shown = out.getvalue()
        assert "train" in shown
        assert "loss=0.1235, lr=0.001, note=ok" in shown


def test_a_terminal_gets_a_bar():
    out = Terminal()
    list(progress(range(3), file=out))
    assert "\r  0%|" in out.getvalue()
    assert "100%|" in out.getvalue()


@pytest.mark.parametrize("size", [(24, 120), (0, 0)])
def test_a_real_terminal_gets_a_bar_even_if_it_says_it_has_no_size(size):
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
    with open(theirs, "w") as out:  # noqa: PTH123
        list(progress(range(3), desc="train", file=out))
        shown = ""
        # A terminal hands over in pieces.
        while "100%" not in shown and select.select([ours], [], [], 10)[0]:
            shown += os.read(ours, 100_000).decode()
        assert "train: 100%|" in shown
    os.close(ours)


def test_by_hand_counts_bytes():
    out = io.StringIO()
    with progress(total=2_000_000, desc="download", unit="B", unit_scale=True, file=out) as bar:
        bar.update(1_500_000)
    assert " 75% 1.50M/2.00M" in out.getvalue()
    with pytest.raises(TypeError, match="without an iterable"):
        list(bar)


def test_what_was_done_before_counts_but_not_in_the_speed(clock):
    out = io.StringIO()
    with progress(total=100, initial=80, file=out) as bar:
        clock[0] += 5
        bar.update(10)
    assert out.getvalue().startswith(" 90% 90/100 [00:05<00:05,  2.00it/s")


def test_the_bar_is_closed_when_the_loop_breaks_by_an_error():
    out = io.StringIO()
    with pytest.raises(ZeroDivisionError):
        [1 / (2 - i) for i in progress(range(10), file=out)]
    assert "20% 2/10" in out.getvalue()
