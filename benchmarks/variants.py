"""How fast is each variant on one thread of a processor, and how much memory does it take?

    python benchmarks/variants.py [--rounds 3] [--batch 8]

Each variant runs in a process of its own at its own input size, in eval mode, with the fused kernels. The variants run
in turn, `--rounds` times. Prints a Markdown table: images a second of processor time (which other work on the machine
disturbs less than that of the clock), the median of the rounds, and the greatest resident memory of the process.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time

from cyclemlp.network import VARIANTS
from cyclemlp.report import markdown_table

RUNS = 3  # batches that are timed in a process, after one to warm up


def measure(name: str, batch: int) -> dict[str, float]:
    """Images a second of processor time, and peak memory in MiB, of this process."""
    import cyclemlp

    cyclemlp.tune()
    import paddle

    side = VARIANTS[name].preprocessing.input_size
    model = cyclemlp.create_model(name)
    model.eval()
    images = paddle.randn([batch, 3, side, side])
    seconds = []
    with paddle.no_grad():
        for _ in range(RUNS + 1):
            begin = time.process_time()
            model(images).numpy()
            seconds.append(time.process_time() - begin)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"images_per_second": batch / statistics.median(seconds[1:]), "peak_memory_mib": memory}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--batch", type=int, default=8, help="images in a step (default: %(default)s)")
    parser.add_argument("--one", choices=VARIANTS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(args.one, args.batch)))
        return
    found: dict[str, list[dict[str, float]]] = {name: [] for name in VARIANTS}
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for _ in range(args.rounds):
        for name, results in found.items():
            command = [sys.executable, __file__, "--one", name, "--batch", str(args.batch)]
            done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
            results.append(json.loads(done.stdout.splitlines()[-1]))
    rows = []
    for name, results in found.items():
        speed = statistics.median(result["images_per_second"] for result in results)
        memory = max(result["peak_memory_mib"] for result in results)
        rows.append([f"`{name}`", f"{speed:.1f}", f"{memory:.0f}"])
    print(markdown_table(["", "images/s", "peak memory, MiB"], rows))


if __name__ == "__main__":
    main()
