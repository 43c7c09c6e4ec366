"""A weight file is data, never a program: a hostile or damaged one ends in a message and exit code 2, and nothing else.

Each is given to the real command in a process of its own, under a limit of memory; see `measured.py`.
"""

import functools
import json
import os
import random
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from hostile_files import (
    DAMAGED,
    HARMFUL,
    array,
    bare,
    dictionary,
    name,
    runs_a_command,
    runs_in_a_container,
    safetensors,
    several,
    tensor,
    text,
    torch_legacy,
    torch_zip,
)
from weights_fixtures import rebuild

from cyclemlp.errors import WeightsError
from cyclemlp.weights import read_weights

ROOT = Path(__file__).parents[2]
MEASURED = Path(__file__).with_name("measured.py")
MEBIBYTE = 2**20
ADDRESS_SPACE = 1024 * MEBIBYTE
#: Python, NumPy and this package alone have about 45 MiB.
PEAK = 192 * MEBIBYTE


@pytest.fixture(scope="module")
def convert():
    """A function that runs `cyclemlp convert` on a file: its exit code, its messages, its peak memory in bytes."""
    with subprocess.Popen(
        [sys.executable, MEASURED, str(ADDRESS_SPACE)],
        cwd=ROOT,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},  # each thread reserves address space
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:

        def run(source, folder):
            words = ["convert", str(source), str(folder / "out.safetensors")]
            print(json.dumps(words), file=process.stdin, flush=True)
            measured = json.loads(process.stdout.readline())
            return measured["code"], measured["printed"], measured["peak_bytes"]

        yield run
        process.stdin.close()


@pytest.fixture
def check_refused(convert):
    """A function that checks that a file of this content is refused with these words, and nothing else happens."""
    return functools.partial(_check_refused, convert)


def _check_refused(convert, content, said, folder):
    source = folder / "bad.pth"
    if content is not None:
        source.write_bytes(content)
    before = set(folder.iterdir())
    code, output, peak = convert(source, folder)
    assert code == 2, output
    assert output.startswith(f"cyclemlp convert: error: {source}: "), output
    assert re.search(said, output, re.DOTALL), output
    assert "Traceback" not in output
    assert peak < PEAK
    assert set(folder.iterdir()) == before  # no output, no canary


def test_a_good_file_passes_the_same_way(convert, tmp_path):
    source = rebuild("authors_release.pth", tmp_path)
    code, output, peak = convert(source, tmp_path)
    assert code == 0, output
    assert peak < PEAK
    assert (tmp_path / "out.safetensors").exists()


def canary_in(folder):
    return f"touch {folder / 'canary'}"


RUNNERS = list(runs_a_command("x"))


@pytest.mark.parametrize("case", RUNNERS)
def test_no_command_is_run(check_refused, case, tmp_path):
    content, said = runs_a_command(canary_in(tmp_path))[case]
    check_refused(content, said, tmp_path)


@pytest.mark.parametrize("case", list(runs_in_a_container("x")))
def test_no_command_is_run_inside_torch_files(check_refused, case, tmp_path):
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
def test_no_memory_is_eaten(check_refused, case, tmp_path):
    build, said = HARMFUL[case]
    check_refused(build(), said, tmp_path)


@pytest.mark.parametrize("case", list(DAMAGED))
def test_damage_is_told(check_refused, case, tmp_path):
    build, said = DAMAGED[case]
    check_refused(build(), said, tmp_path)


def test_what_is_no_file_is_told(check_refused, tmp_path):
    os.mkfifo(tmp_path / "bad.pth")  # opening it would wait for ever
    check_refused(None, "is neither a file nor a folder", tmp_path)
    (tmp_path / "bad.pth").unlink()
    check_refused(None, "there is no such file or folder", tmp_path)
    (tmp_path / "bad.pth").mkdir()
    check_refused(None, "is a folder without weights", tmp_path)


def everything(weight, bias):
    """A checkpoint that uses every instruction that is allowed, so that changes of its bytes reach them all."""
    return (
        dictionary(model=dictionary(**{"fc.weight": weight, "fc.bias": bias}))
        + (
            b"q\x000h\x00("
            + text("args")
            + name("argparse", "Namespace")
            + b")\x81"
            + dictionary(lr=b"G" + bytes(8))
            + b"b"
        )
        + (text("list") + b"]q\x01(K\x01M\x01\x00J\x01\x00\x00\x00eN\x88\x86a")
        + (text("array") + array() + text("ordered") + name("collections", "OrderedDict") + b")R")
        + (
            text("more")
            + b"("
            + text("a")
            + b"2d"
            + text("long")
            + b"(l0(NNt\x85N\x89\x87r\x05\x00\x00\x000j\x05\x00\x00\x00u"
        )
    )


@pytest.mark.parametrize("form", ["bare", "zip", "legacy", "safetensors"])
def test_any_change_ends_in_a_message(form, tmp_path):
    """A thousand random changes: a file is read, or refused with a WeightsError; nothing else ever happens."""
    torch = everything(tensor((1, 2), (2, 1)), tensor((1,)))
    original, build = {
        "bare": (everything(array(several(b"K\x01", b"K\x02")), array(count=1, data=bytes(4))), bare),
        "zip": (torch, lambda program: torch_zip(program, {"0": bytes(8)})),
        "legacy": (torch, lambda program: torch_legacy(program, b"]" + text("0") + b"a", b"\2" + bytes(15))),
        "safetensors": (
            b'{"fc.weight":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]}}',
            lambda header: safetensors(header, bytes(8)),
        ),
    }[form]
    path = tmp_path / "x.pth"
    path.write_bytes(build(original))
    assert "fc.weight" in read_weights(path, layout="authors").tensors
    outcomes = Counter()
    for seed in range(1000):
        chance = random.Random(seed)
        changed = bytearray(original)
        for _ in range(chance.choice((1, 1, 2, 5))):
            place = chance.randrange(len(changed))
            length, new = chance.choice(((1, 1), (0, 1), (1, 0), (3, 0), (4, 4)))
            some = [
                chance.choice((*b"()02NR\x81\x85\x86\x87abdehjloqtu}]", chance.randrange(256)))
                for _ in range(new)
            ]
            changed[place : place + length] = bytes(some)
        path.write_bytes(build(bytes(changed)))
        try:
            read_weights(path, layout="authors")
            outcomes["read"] += 1
        except WeightsError as error:
            outcomes["refused" if str(error).startswith(f"{path}: ") else "unnamed"] += 1
    assert set(outcomes) == {"read", "refused"}
    assert min(outcomes.values()) > 20


def test_converting_needs_no_paddle():
    program = (
        "import sys; from cyclemlp.cli.main import main\n"
        "try: main(['convert', '--help'])\n"
        "except SystemExit: pass\n"
        "import cyclemlp.weights\n"
        "assert not {'paddle', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
