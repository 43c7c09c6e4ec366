"""How much of folder prediction's throughput does the service give to 64 clients at once?

    python benchmarks/serving.py EXPORTED [--runtime onnxruntime] [--clients 64] [--seconds 60] [--folder DIR]

EXPORTED is what `cyclemlp export` wrote; without it a cyclemlp_b1 with random weights is exported (its speed is that
of a trained one). Folder prediction, over the same images with the same runtime, is measured before the service
without worker processes, as `cyclemlp predict` has it on a processor, and after it with one a core; the better
counts. The clients run in one process beside the service, on the same cores, with nothing but asyncio's sockets; the
processor time that they take is printed. Every client keeps its connection, sends one image after another, waits as
Retry-After says where it gets a 503, and checks every answer.

The bars: no failed request, every 503 counted and shown, and at least 80 % of folder prediction's images/s.
Without --folder, 500×375 JPEGs of scikit-learn's two photographs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from loader import write_images  # the programs beside this one
from predict_overlap import export_random

from cyclemlp.deploy import RUNTIMES

BAR_PERCENT = 80

PREDICT = """
import sys, time
from cyclemlp.data import ImageFiles, build_loader, evaluation_transform
from cyclemlp.deploy import load_exported
from cyclemlp.evaluation import predict
exported, runtime, threads, batch, workers, seconds, *paths = sys.argv[1:]
model = load_exported(exported, runtime or None, threads=int(threads) or None)
transform = evaluation_transform(model.metadata.preprocessing)
loader = build_loader(ImageFiles(paths), transform, batch_size=int(batch), num_workers=int(workers))
def once():
    return sum(1 for _ in predict(model.logits, loader, progress=False))
once()
begun, count = time.perf_counter(), 0
while time.perf_counter() - begun < float(seconds):
    count += once()
print(count / (time.perf_counter() - begun))
"""


def folder_prediction(args: argparse.Namespace, exported: Path, paths: list[Path], workers: int) -> float:
    """Images/s, in a process of its own, as the service has one."""
    words = [exported, args.runtime or "", args.threads or 0, args.batch, workers, args.seconds / 4, *paths]
    done = subprocess.run(
        [sys.executable, "-c", PREDICT, *map(str, words)], check=True, capture_output=True, text=True
    )
    return float(done.stdout.split()[-1])


class Clients:
    """Some clients, and what became of their requests."""

    def __init__(self, port: int, images: list[bytes]) -> None:
        self._port = port
        self._requests = [
            b"POST /predict?top=5 HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\n"
            b"Content-Length: %d\r\n\r\n%s" % (len(image), image)
            for image in images
        ]
        self.statuses: Counter[str] = Counter()
        self.milliseconds: list[float] = []
        self.batches: list[int] = []

    async def run(self, clients: int, seconds: float) -> float:
        """Let them ask for some seconds, and give the seconds until the last answer."""
        begun = time.perf_counter()
        await asyncio.gather(*(self._one(number, begun + seconds) for number in range(clients)))
        return time.perf_counter() - begun

    async def _one(self, number: int, end: float) -> None:
        reader = writer = None
        while time.perf_counter() < end:
            begun = time.perf_counter()
            try:
                if writer is None or reader is None:
                    reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
                writer.write(self._requests[number % len(self._requests)])
                await writer.drain()
                status, retry, answer = await read_answer(reader)
            except (OSError, EOFError, ValueError) as error:
                self.statuses[f"failed: {type(error).__name__}: {error}"] += 1
                writer = None
                continue
            number += 1
            if status == 200 and answer["classes"]:
                self.statuses["200"] += 1
                self.milliseconds.append(1000 * (time.perf_counter() - begun))
                self.batches.append(answer["batch"])
            elif status == 503:
                self.statuses["503"] += 1
                await asyncio.sleep(retry)
            else:
                self.statuses[f"failed: {status} {answer.get('error')}"] += 1
        if writer is not None:
            writer.close()


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, float, dict]:
    """Status, seconds of Retry-After, JSON."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower().split("\r\n")
    headers = dict(line.split(": ", 1) for line in head[1:] if line)
    body = await reader.readexactly(int(headers["content-length"]))
    return int(head[0].split()[1]), float(headers.get("retry-after", 0)), json.loads(body)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("exported", nargs="?", type=Path)
    parser.add_argument("--runtime", choices=RUNTIMES)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--clients", type=int, default=64, help="default: %(default)s")
    parser.add_argument("--seconds", type=float, default=60, help="default: %(default)g")
    parser.add_argument("--batch", type=int, default=8, help="of both sides (default: %(default)s)")
    parser.add_argument("--queue", type=int, default=256, help="of the service (default: %(default)s)")
    parser.add_argument("--images", type=int, default=128, help="default: %(default)s")
    parser.add_argument("--folder", type=Path, help="folder of JPEGs to send instead")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        exported = args.exported or export_random(Path(scratch) / "b1")
        if args.folder:
            paths = sorted(p for p in args.folder.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg"))
            paths = paths[: args.images]
        else:
            paths = write_images(Path(scratch), (500, 375), args.images)
        cores = len(os.sched_getaffinity(0))
        alone = folder_prediction(args, exported, paths, 0)
        words = ["serve", exported, "--port", 0, "--max-batch", args.batch, "--queue", args.queue]
        words += ["--runtime", args.runtime] if args.runtime else []
        words += ["--threads", args.threads] if args.threads else []
        service = subprocess.Popen(
            [sys.executable, "-m", "cyclemlp", *map(str, words)], stdout=subprocess.PIPE, text=True
        )
        try:
            assert service.stdout is not None
            line = service.stdout.readline()
            print(line, end="", flush=True)
            port, images = (
                int(line.split("/ ;")[0].rsplit(":", 1)[1]),
                [path.read_bytes() for path in paths],
            )
            asyncio.run(Clients(port, images).run(args.clients, min(args.seconds / 10, 5)))  # warm up
            clients = Clients(port, images)
            spent = time.process_time()
            seconds = asyncio.run(clients.run(args.clients, args.seconds))
            spent = time.process_time() - spent
        finally:
            service.send_signal(signal.SIGTERM)
            code = service.wait(60)
        with_workers = folder_prediction(args, exported, paths, cores)
    speed, folder = clients.statuses["200"] / seconds, max(alone, with_workers)
    failed = sum(count for status, count in clients.statuses.items() if status.startswith("failed"))
    print(f"{args.clients} clients for {seconds:.1f} s, {len(paths)} images, {cores} cores, exit code {code}")
    for status, count in sorted({"503": 0, **clients.statuses}.items()):
        print(f"{count:8,} {status}")
    if not clients.milliseconds:
        return 1
    print(
        f"latency p50 {statistics.median(clients.milliseconds):.0f} ms, p95 {p95(clients.milliseconds):.0f} ms"
    )
    print(
        f"mean batch {statistics.mean(clients.batches):.1f} images; the clients took {spent / seconds:.2f} cores"
    )
    print(
        f"folder prediction {alone:.1f}, with {cores} workers {with_workers:.1f}; the service {speed:.1f} images/s"
    )
    share = 100 * speed / folder
    print(
        f"the service gives {share:.0f} % of folder prediction (bar: {BAR_PERCENT} %), "
        f"{failed} requests failed (bar: 0)"
    )
    return 0 if share >= BAR_PERCENT and not failed else 1


def p95(values: list[float]) -> float:
    """95th percentile."""
    return sorted(values)[int(0.95 * (len(values) - 1))]


if __name__ == "__main__":
    sys.exit(main())
