"""Loads a server of the project's own, on this machine: nonsense, twice its capacity, 16 clients.

    python benchmarks/serve.py runs/a
    python benchmarks/serve.py exported --requests 1000 --seconds 20 --dry-run

starts `detnet serve MODEL`, sends it malformed requests of all KINDS in malformed.py, then for
--seconds twice as many sound ones as it answers, then --clients that ask again and again, beside
the engine's own pace in a process of its own. Bounded in number and time.
"""

import argparse
import asyncio
import contextlib
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness import keep, parse
from malformed import KINDS, picture, upload

AT_ONCE = 16  # malformed requests under way
PATIENCE_S = 60.0  # for an answer
OWN_PACE = """
import io, sys, time
import numpy as np
from PIL import Image
from detnet.inference.server.models import open_served
engine = open_served(sys.argv[1], sys.argv[2])
image = np.asarray(Image.open(sys.argv[3]).convert("RGB"))
engine.detect([image], score_threshold=0.5)
start, busy, count = time.perf_counter(), time.process_time(), 0
while time.perf_counter() - start < float(sys.argv[4]) or count < 3:
    engine.detect([image], score_threshold=0.5)
    count += 1
print(count / (time.perf_counter() - start), (time.process_time() - busy) / count)
"""


class Server:
    """A running `detnet serve`, and what became of it."""

    def __init__(self, process: subprocess.Popen[str], address: str, errors: Path) -> None:
        self.process = process
        self.host, _, port = address.removeprefix("http://").partition(":")
        self.port = int(port)
        self.errors = errors

    def worker(self) -> int:
        """The worker's process id."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return int(children.read_text().split()[0])

    def memory_mb(self) -> float:
        """The worker's resident memory."""
        lines = Path(f"/proc/{self.worker()}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1024

    def busy_s(self) -> float:
        """Processor's time that the worker took so far."""
        fields = Path(f"/proc/{self.worker()}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    async def ask(self, data: bytes) -> bytes:
        """Sends bytes on a connection of their own; what comes back until it is closed."""
        reader, writer = await asyncio.open_connection(self.host, self.port)
        try:
            with contextlib.suppress(ConnectionError):
                writer.write(data)
                await writer.drain()
            answer = b""
            with contextlib.suppress(ConnectionError):
                while part := await asyncio.wait_for(reader.read(65536), PATIENCE_S):
                    answer += part
            return answer
        finally:
            writer.close()


@contextlib.contextmanager
def serving(words: list[str]) -> Iterator[Server]:
    """Runs the server until the block ends."""
    with tempfile.TemporaryDirectory() as folder:
        errors = Path(folder, "errors.txt")
        with errors.open("w") as stream:
            process = subprocess.Popen(
                [sys.executable, "-m", "detnet", "serve", *words, "--port", "0"],
                stdout=subprocess.PIPE,
                stderr=stream,
                text=True,
            )
        try:
            assert process.stdout is not None
            address = process.stdout.readline().strip()
            if not address:
                sys.exit(errors.read_text())
            yield Server(process, address, errors)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(20)
            assert process.stdout is not None
            process.stdout.close()


def status(answer: bytes) -> int:
    """An answer's status, 0 for none."""
    return int(answer[9:12]) if answer.startswith(b"HTTP/1.1 ") else 0


async def malformed(server: Server, count: int, seed: int) -> dict[str, Any]:
    """Sends malformed requests of every kind in turn; memory is looked at after each tenth."""
    seen: Counter[int] = Counter()
    unlike: Counter[str] = Counter()
    traces = 0
    names, memory = list(KINDS), list[float]()
    first_worker = server.worker()

    async def one(number: int) -> None:
        nonlocal traces
        name = names[number % len(names)]
        answer = await server.ask(KINDS[name](random.Random(seed + number)))
        seen[status(answer)] += 1
        traces += b"Traceback" in answer or b'File "' in answer
        body = answer.partition(b"\r\n\r\n")[2]
        if status(answer) not in (0, 200) and not body.startswith(b'{"status":'):
            unlike[name] += 1

    start = time.perf_counter()
    for begin in range(0, count, AT_ONCE):
        await asyncio.gather(*(one(at) for at in range(begin, min(begin + AT_ONCE, count))))
        if begin + AT_ONCE >= (len(memory) + 1) * count / 10:
            memory.append(round(server.memory_mb(), 1))
    said = server.errors.read_text()
    return {
        "requests": count,
        "kinds": len(names),
        "seconds": round(time.perf_counter() - start, 1),
        "statuses": {str(each): seen[each] for each in sorted(seen)},
        "no_json": dict(unlike),
        "traces": traces + said.count("Traceback"),
        "dead_workers": said.count("the worker ended") + (server.worker() != first_worker),
        "memory_mb": memory,
    }


async def closed_loop(
    server: Server, data: bytes, clients: int, seconds: float
) -> tuple[float, Counter[int]]:
    """Images a second that clients get who ask again at once, or when they are told to."""
    seen: Counter[int] = Counter()
    end = time.perf_counter() + seconds

    async def client() -> None:
        while time.perf_counter() < end:
            answer = await server.ask(data)
            seen[status(answer)] += 1
            if status(answer) == 503:
                await asyncio.sleep(1)

    start = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    return seen[200] / (time.perf_counter() - start), seen


async def overload(server: Server, data: bytes, pace: float, seconds: float) -> dict[str, Any]:
    """Sends `pace` requests a second, whatever becomes of them."""
    times: dict[int, list[float]] = {}
    hints = 0

    async def one() -> None:
        nonlocal hints
        start = time.perf_counter()
        answer = await server.ask(data)
        times.setdefault(status(answer), []).append(time.perf_counter() - start)
        hints += status(answer) == 503 and b"\r\nretry-after: " in answer

    begin, tasks = time.perf_counter(), []
    while (now := time.perf_counter() - begin) < seconds:
        tasks += [asyncio.create_task(one()) for _ in range(int(now * pace) + 1 - len(tasks))]
        await asyncio.sleep(0.01)
    await asyncio.gather(*tasks)
    return {
        "seconds": round(seconds, 1),
        "sent": len(tasks),
        "sent_per_s": round(pace, 2),
        "statuses": {str(each): len(times[each]) for each in sorted(times)},
        "lost": len(tasks) - sum(len(times.get(each, [])) for each in (200, 503)),
        "refused_without_retry_after": len(times.get(503, [])) - hints,
        "accepted_s": _percentiles(times.get(200, [])),
        "refused_s": _percentiles(times.get(503, [])),
        "workers_replaced": server.errors.read_text().count("the worker ended"),
    }


def _percentiles(values: list[float]) -> dict[str, float]:
    if len(values) < 2:
        return {}
    cuts = statistics.quantiles(values, n=100, method="inclusive")
    return {f"p{at}": round(cuts[at - 1], 3) for at in (50, 99)}


def own_pace(model: str, engine: str, image: Path, seconds: float) -> tuple[float, float]:
    """Images a second of the engine in a process of its own, and the processor's seconds of one."""
    words = [sys.executable, "-c", OWN_PACE, model, engine, str(image), str(seconds)]
    told = subprocess.run(words, check=True, capture_output=True, text=True).stdout.split()
    return float(told[0]), float(told[1])


async def replaced(server: Server) -> tuple[float, float]:
    """Seconds from the worker's kill until the next one is ready, and its processor's time."""
    os.kill(server.worker(), signal.SIGKILL)
    start = time.perf_counter()
    while time.perf_counter() - start < PATIENCE_S:
        with contextlib.suppress(OSError):
            answer = await server.ask(
                b"GET /ready HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
            )
            if status(answer) == 200:
                return time.perf_counter() - start, server.busy_s()
        await asyncio.sleep(0.02)
    raise TimeoutError("no worker came back")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--requests", type=int, default=10_000, help="malformed ones")
    parser.add_argument("--seconds", type=float, default=300.0, help="at twice the capacity")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--client-seconds", type=float, default=30.0)
    parser.add_argument("--height", type=int, default=800, help="of the pictures sent")
    parser.add_argument("--width", type=int, default=1216)
    parser.add_argument("--seed", type=int, default=0)
    args = parse(parser)
    facts: dict[str, Any] = {"size": [args.height, args.width]}
    content = picture("JPEG", width=args.width, height=args.height)
    data = upload(content)
    with tempfile.TemporaryDirectory() as folder:
        image = Path(folder, "image.jpg")
        image.write_bytes(content)
        before = own_pace(args.model, args.engine, image, args.client_seconds)
        with serving([args.model, "--engine", args.engine]) as server:
            idle = server.busy_s()
            pace, seen = asyncio.run(closed_loop(server, data, args.clients, args.client_seconds))
            busy = (server.busy_s() - idle) / max(1, seen[200])
            clock_s, processor_s = asyncio.run(replaced(server))
        after = own_pace(args.model, args.engine, image, args.client_seconds)
    facts |= {"replaced_s": round(clock_s, 2), "replaced_processor_s": round(processor_s, 2)}
    own = (before[0] + after[0]) / 2
    facts["clients"] = {
        "clients": args.clients,
        "images_per_s": round(pace, 3),
        "engine_images_per_s": [round(before[0], 3), round(after[0], 3)],
        "share": round(pace / own, 3),
        # Of an image: other work on the machine changes it less than the clock.
        "processor_s": {
            "engine": [round(before[1], 5), round(after[1], 5)],
            "worker": round(busy, 5),
        },
        "processor_share": round((before[1] + after[1]) / 2 / busy, 3),
        "statuses": {str(each): seen[each] for each in sorted(seen)},
    }
    print(facts["clients"], flush=True)
    print(f"replaced in {clock_s:.2f} s, {processor_s:.2f} s of the processor", flush=True)
    with serving([args.model, "--engine", args.engine]) as server:
        facts["overload"] = asyncio.run(overload(server, data, 2 * pace, args.seconds))
        print(facts["overload"], flush=True)
    with serving([args.model, "--engine", args.engine]) as server:
        facts["malformed"] = asyncio.run(malformed(server, args.requests, args.seed))
        print(facts["malformed"], flush=True)
    keep("serve", **facts)


if __name__ == "__main__":
    main()
