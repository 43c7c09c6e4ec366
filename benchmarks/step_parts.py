"""Where the time of a training step goes, in Paddle's own operations and with the fused kernels.

    CYCLEMLP_TUNE=1 OMP_NUM_THREADS=2 python benchmarks/step_parts.py --figure runs/step_parts.png

B1 at 224², eight images, AdamW. Each event of Paddle's profiler counts for what passes in it and in no event inside it;
each step of a fused program is an event too. Prints milliseconds a step, and draws a stacked bar of them.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import cyclemlp  # first: with CYCLEMLP_TUNE=1 it tunes before Paddle is imported

# isort: split
from paddle import profiler
from speed import paddle_work  # the program beside this one

from cyclemlp.kernels.fused.program import Program
from cyclemlp.report.figures import COLOURS, GREY, PALE, saved_figure

#: What an event belongs to, by its name: the first that matches.
PARTS = {
    "matrix products": r"matmul|linear|addmm|kernel product",
    "MLPs by chunks": r"kernel mlp",  # their products included
    "convolutions": r"^(?!.*depthwise).*conv|unfold",
    "shifts": r"depthwise|shift",
    "layer norms": r"layer_norm|layernorm|kernel norm",
    "gate and weighting": r"softmax|multiply|weighting|gate|scaling|mean|stack|sums|add_n",
    "GELU, residual connections": r"gelu|residual|add",
    "AdamW": r"adamw",
}
REST = "the rest"


def parts_of(step: Any, steps: int) -> tuple[dict[str, float], float]:
    """Milliseconds of each part, and of a whole step."""
    for _ in range(3):
        step()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "trace.json")
        with profiler.Profiler(
            targets=[profiler.ProfilerTarget.CPU], on_trace_ready=lambda p: p.export(str(path), "json")
        ):
            began = time.perf_counter()
            for _ in range(steps):
                step()
            whole = 1000 * (time.perf_counter() - began) / steps
        events = json.loads(path.read_text())["traceEvents"]
    sums: dict[str, float] = defaultdict(float)
    for name, own in own_times([e for e in events if e.get("ph") == "X" and "dur" in e]):
        sums[next((part for part, words in PARTS.items() if re.search(words, name, re.I)), REST)] += (
            own / 1000
        )
    found = {part: sums[part] / steps for part in PARTS if sums[part]}
    found[REST] = max(0.0, whole - sum(found.values()))
    return found, whole


def own_times(events: list[dict[str, Any]]) -> list[tuple[str, float]]:
    """Name and microseconds of each event, without those of the events inside it."""
    open_events: dict[Any, list[list[Any]]] = defaultdict(list)
    done = []
    for event in sorted(events, key=lambda e: (e["ts"], -e["dur"])):
        stack = open_events[event["tid"]]
        while stack and stack[-1][1] <= event["ts"]:
            done.append(stack.pop())
        if stack:
            stack[-1][2] -= event["dur"]
        stack.append([event["name"], event["ts"] + event["dur"], event["dur"]])
    return [(name, own) for name, _, own in [*done, *(e for stack in open_events.values() for e in stack)]]


def draw(found: dict[str, dict[str, float]], path: Path) -> None:
    """A stacked bar a form."""
    names = [part for part in (*PARTS, REST) if any(part in parts for parts in found.values())]
    with saved_figure(path, 8.0, 2.6) as figure:
        axes = figure.subplots()
        lefts = dict.fromkeys(found, 0.0)
        for i, part in enumerate(names):
            widths = [found[form].get(part, 0.0) for form in found]
            axes.barh(
                list(found), widths, left=list(lefts.values()), label=part, color=(*COLOURS, GREY, PALE)[i]
            )
            lefts = {form: lefts[form] + width for form, width in zip(found, widths, strict=True)}
        axes.invert_yaxis()
        axes.set_xlabel("milliseconds of a training step")
        axes.legend(ncols=3, fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.3), frameon=False)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=8, help="default: %(default)s")
    parser.add_argument("--steps", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--figure", type=Path, metavar="FILE")
    args = parser.parse_args()
    Program.watch = lambda _, step: profiler.RecordEvent(f"kernel {step}")
    found = {}
    for form, kernels in (("Paddle's operations", "plain"), ("fused kernels", "auto")):
        network = cyclemlp.create_model("cyclemlp_b1", kernels=kernels)
        found[form], whole = parts_of(
            paddle_work(network, [args.images, 3, 224, 224], train=True), args.steps
        )
        print(f"{form}: {whole:.0f} ms a step")
        for part, ms in found[form].items():
            print(f"    {part:28}{ms:8.1f}{100 * ms / whole:6.0f} %", flush=True)
    if args.figure:
        draw(found, args.figure)


if __name__ == "__main__":
    main()
