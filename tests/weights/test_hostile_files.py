"""A weight file is data, never a program: a hostile or damaged one ends in a message and exit code 2, and nothing else.

Each is given to the real command in a process of its own, under a limit of memory.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hostile_files import DAMAGED, HARMFUL, runs_a_command, runs_in_a_container
from weights_fixtures import rebuild

ROOT = Path(__file__).parents[2]
MEASURED = Path(__file__).with_name("measured.py")
MEBIBYTE = 2**20
ADDRESS_SPACE = 1024 * MEBIBYTE
#: Python, NumPy and this package alone have about 45 MiB.
PEAK = 192 * MEBIBYTE


def convert(source, folder, *options):
    """Run `cyclemlp convert`; its exit code, its messages, its peak memory in bytes."""
    target, report = folder / "out.safetensors", folder / "report.json"
    command = [sys.executable, "-m", "cyclemlp", "convert", str(source), str(target), *options]
    done = subprocess.run(
        [sys.executable, "-I", "-S", MEASURED, str(ADDRESS_SPACE), report, *command],
        cwd=ROOT,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},  # each thread reserves address space
        capture_output=True,
        text=True,
        timeout=120,
    )
    measured = json.loads(report.read_text())
    return measured["code"], done.stdout + done.stderr, measured["peak_bytes"]


def check_refused(content, said, folder):
    source = folder / "bad.pth"
    if content is not None:
        source.write_bytes(content)
    (folder / "report.json").unlink(missing_ok=True)
    before = set(folder.iterdir())
    code, output, peak = convert(source, folder)
    assert code == 2, output
    assert output.startswith(f"cyclemlp convert: error: {source}: "), output
    assert re.search(said, output, re.DOTALL), output
    assert "Traceback" not in output
    assert peak < PEAK
    assert set(folder.iterdir()) - before == {folder / "report.json"}  # no output, no canary


def test_a_good_file_passes_the_same_way(tmp_path):
    source = rebuild("authors_release.pth", tmp_path)
    code, output, peak = convert(source, tmp_path)
    assert code == 0, output
    assert peak < PEAK
    assert (tmp_path / "out.safetensors").exists()


def canary_in(folder):
    return f"touch {folder / 'canary'}"


RUNNERS = list(runs_a_command("x"))


@pytest.mark.parametrize("case", RUNNERS)
def test_no_command_is_run(case, tmp_path):
    content, said = runs_a_command(canary_in(tmp_path))[case]
    check_refused(content, said, tmp_path)


@pytest.mark.parametrize("case", list(runs_in_a_container("x")))
def test_no_command_is_run_inside_torch_files(case, tmp_path):
    content, said = runs_in_a_container(canary_in(tmp_path))[case]
    check_refused(content, said, tmp_path)


def test_python_itself_would_have_run_them(tmp_path):
    """The cases are what they claim to be: `pickle.load` runs the command of every one."""
    program = (
        "import sys, os, copyreg, pickle, pathlib\n"
        "copyreg.add_extension(os.system.__module__, 'system', 7)\n"
        "for folder in sys.argv[1:]:\n"
        "    try: pickle.loads(pathlib.Path(folder, 'bad').read_bytes())\n"
        "    except Exception: pass\n"
    )
    folders = {case: tmp_path / str(i) for i, case in enumerate(RUNNERS)}
    for case, folder in folders.items():
        folder.mkdir()
        (folder / "bad").write_bytes(runs_a_command(canary_in(folder))[case][0])
    subprocess.run([sys.executable, "-c", program, *map(str, folders.values())], check=True, timeout=120)
    assert [case for case, folder in folders.items() if not (folder / "canary").exists()] == []


@pytest.mark.parametrize("case", list(HARMFUL))
def test_no_memory_is_eaten(case, tmp_path):
    build, said = HARMFUL[case]
    check_refused(build(), said, tmp_path)


@pytest.mark.parametrize("case", list(DAMAGED))
def test_damage_is_told(case, tmp_path):
    build, said = DAMAGED[case]
    check_refused(build(), said, tmp_path)


def test_what_is_no_file_is_told(tmp_path):
    os.mkfifo(tmp_path / "bad.pth")  # opening it would wait for ever
    check_refused(None, "is neither a file nor a folder", tmp_path)
    (tmp_path / "bad.pth").unlink()
    check_refused(None, "there is no such file or folder", tmp_path)
    (tmp_path / "bad.pth").mkdir()
    check_refused(None, "is a folder without weights", tmp_path)


def test_converting_needs_no_paddle():
    program = (
        "import sys; from cyclemlp.cli.main import main\n"
        "try: main(['convert', '--help'])\n"
        "except SystemExit: pass\n"
        "import cyclemlp.weights\n"
        "assert not {'paddle', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
