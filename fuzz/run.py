"""Feed damaged files to whatever reads a stranger's files; see README.md beside this file.

usage: run.py [--seconds N] [--seed N] [--list] [TARGET ...]
       run.py TARGET --replay FILE
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import importlib
import os
import re
import subprocess
import sys
import time
import warnings
from pathlib import Path
from types import ModuleType

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
#: Of one input.
MOST_SECONDS, MOST_MEGABYTES = 10, 2048
#: Longest input in bytes that the fuzzer makes of the seeds.
MOST_BYTES = 65_536
#: Whose lines count as code that an input reaches.
INSTRUMENTED = ["cyclemlp", "python_multipart", "starlette.formparsers", "tarfile", "yaml", "zipfile"]


def names() -> list[str]:
    """The targets, by the names of their modules."""
    return sorted(path.stem for path in (HERE / "targets").glob("[a-z]*.py"))


def main() -> int:
    parser = argparse.ArgumentParser(description="Fuzz the readers of strangers' files; see fuzz/README.md.")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="default: all of them")
    parser.add_argument(
        "--seconds", type=int, default=60, help="length of each target's run (default: %(default)s)"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="random seed; 0 takes the time (default: %(default)s)"
    )
    parser.add_argument("--replay", type=Path, metavar="FILE", help="read one input, with its traceback")
    parser.add_argument("--list", action="store_true", help="name the targets and end")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    args, rest = parser.parse_known_args()
    unknown = [name for name in args.targets if name not in names()]
    if unknown:
        parser.error(f"unknown target {unknown[0]!r}; the known ones are {', '.join(names())}")
    if rest and not args.inside:
        parser.error(f"unknown argument {rest[0]!r}")
    if args.list:
        for name in names():
            print(f"{name:14} {ast.get_docstring(ast.parse((HERE / 'targets' / f'{name}.py').read_text()))}")
        return 0
    if args.replay is not None:
        if len(args.targets) != 1:
            parser.error("--replay takes one TARGET")
        one_input(load(args.targets[0]))(args.replay.read_bytes())
        print("read, or refused as it should be")
        return 0
    if args.inside:
        return inside(args.targets[0], rest)
    found = [run(name, args.seconds, args.seed) for name in args.targets or names()]
    return 1 if any(found) else 0


def load(name: str) -> ModuleType:
    """The module of a target."""
    sys.path[:0] = [str(ROOT), str(HERE), str(ROOT / "tests"), str(ROOT / "tests" / "weights")]
    return importlib.import_module(f"targets.{name}")


def one_input(module: ModuleType):
    """What reads an input and lets nothing through but errors that are not the package's own."""
    from cyclemlp.errors import CycleMLPError

    def check(data: bytes) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                module.check(data)
            except CycleMLPError as error:
                text = str(error)
                assert text, "an error without a message"
                assert len(text) < 5000, f"a message of {len(text)} characters: {text[:200]}"

    return check


def run(name: str, seconds: int, seed: int) -> bool:
    """Fuzz a target in a process of its own; whether something was found."""
    corpus, findings = HERE / "corpus" / name, HERE / "findings" / name
    for folder in (corpus, findings):
        folder.mkdir(parents=True, exist_ok=True)
    known = set(findings.iterdir())
    flags = [
        f"-max_total_time={seconds}",
        f"-timeout={MOST_SECONDS}",
        f"-rss_limit_mb={MOST_MEGABYTES}",
        f"-max_len={MOST_BYTES}",
        f"-seed={seed}",
        f"-artifact_prefix={findings}{os.sep}",
        "-print_final_stats=1",
    ]
    begin = time.monotonic()
    done = subprocess.run(
        [sys.executable, __file__, name, "--inside", *flags, str(corpus)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env={**os.environ, "GLOG_minloglevel": "2", "OMP_NUM_THREADS": "1"},
    )
    took = time.monotonic() - begin
    count = re.search(r"number_of_executed_units:\s*(\d+)", done.stdout)
    new = sorted(set(findings.iterdir()) - known) or sorted(
        path for path in known if str(path) in done.stdout
    )
    failed = bool(new) or done.returncode != 0
    print(
        f"{name:14} {int(count[1]) if count else 0:>10,} inputs in {took:4.0f} s, "
        f"{len(list(corpus.iterdir())):>6,} kept, {'FOUND: ' if failed else 'nothing found'}"
        + ", ".join(str(path.relative_to(ROOT)) for path in new),
        flush=True,
    )
    if failed:
        print(done.stdout[-4000:], flush=True)
    return failed


def inside(name: str, flags: list[str]) -> int:
    """The process that fuzzes."""
    import atheris

    with atheris.instrument_imports(include=INSTRUMENTED):
        module = load(name)
        check = one_input(module)
    corpus = Path(flags[-1])
    for data in module.seeds():
        if len(data) <= MOST_BYTES:
            (corpus / hashlib.sha256(data).hexdigest()[:40]).write_bytes(data)
    atheris.Setup([sys.argv[0], *flags], check, enable_python_coverage=True)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
