"""Runs to be killed.

python killable_run.py OUTPUT EPOCHS [--workers N]
    trains, or goes on; whoever started it kills it.
python killable_run.py OUTPUT EPOCHS FIRST STRIDE
    for n = FIRST, FIRST + STRIDE, …: OUTPUT/n is a run that is killed at its n-th change of the file system and then
    goes on to its end; until a run ends before it is killed. Prints the last n.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

from tiny_run import tiny_recipe, tiny_train  # noqa: E402  (the path is set above)


def go_on(output: Path, epochs: int, workers: int = 0) -> None:
    # One checkpoint is kept: there is no older one to fall back on.
    recipe = tiny_recipe(run__epochs=epochs, run__keep_checkpoints=1)
    tiny_train(output, recipe, resume="auto", workers=workers, say=lambda text: print(text, flush=True))


def kill_at(output: Path, number: int) -> None:
    """This process ends when it is about to change a file or folder there for the `number`-th time, from 0."""
    seen = 0

    def count(event: str, args: tuple) -> None:
        nonlocal seen
        changes = event in ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate", "shutil.rmtree")
        if event == "open":
            changes = isinstance(args[0], str | Path) and bool((args[2] or 0) & (os.O_WRONLY | os.O_RDWR))
        # Trees are removed by names relative to their folder.
        if changes and (output.name in str(args[0]) or event in ("os.remove", "os.rmdir")):
            if seen == number:
                os.kill(os.getpid(), signal.SIGKILL)
            seen += 1

    sys.addaudithook(count)


def in_a_child(work, *args) -> int:
    """Exit code of a copy of this process that does the work: Paddle is loaded, nothing is computed yet."""
    child = os.fork()
    if child == 0:
        work(*args)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def killed(output: Path, epochs: int, number: int) -> None:
    kill_at(output, number)
    go_on(output, epochs)


def main() -> None:
    output, epochs = Path(sys.argv[1]), int(sys.argv[2])
    if len(sys.argv) == 3:
        return go_on(output, epochs)
    if sys.argv[3] == "--workers":
        return go_on(output, epochs, int(sys.argv[4]))
    first, stride = map(int, sys.argv[3:])
    number = first
    while (code := in_a_child(killed, output / f"at{number}", epochs, number)) != 0:
        if code != -signal.SIGKILL:
            sys.exit(f"the run to be killed at change {number} ended with {code}")
        if in_a_child(go_on, output / f"at{number}", epochs) != 0:
            sys.exit(f"killed at change {number}, the run does not go on")
        number += stride
    print("last", number)
    return None


if __name__ == "__main__":
    main()
