"""What batching gains a server, and whether its memory stays flat.

Starts `isograft serve` on loopback and asks it with clients that each send the next image when the answer to the last has come: one client,
and several at once. A second server with the same model sees one image at a time (batch 1), as a server without batching would.
The clients are one cheap loop over bare sockets. Prints images per second, latencies and ratios, all within one run.

    python benchmarks/serve.py [--model MODEL | --backbone NAME --size 64] [--images FOLDER]
    python benchmarks/serve.py --minutes 10      # one long run: memory, errors, latency
"""

from __future__ import annotations

import argparse
import selectors
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from harness import IMAGES, arguments, described, finish, model_options, parser
from material import classifier, files_of, photographs

BOUNDARY = b"isograft-benchmark"


def request(image: bytes) -> bytes:
    """One POST as bytes."""
    front = b'Content-Disposition: form-data; name="file"; filename="x"\r\nContent-Type: application/octet-stream\r\n\r\n'
    body = b"--" + BOUNDARY + b"\r\n" + front + image + b"\r\n--" + BOUNDARY + b"--\r\n"
    head = (
        b"POST /api/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary="
        + BOUNDARY
        + b"\r\nContent-Length: "
    )
    return head + str(len(body)).encode() + b"\r\n\r\n" + body


class Client:
    """One connection with at most one request under way."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sent, self.got, self.whole = 0.0, bytearray(), -1

    def send(self, data: bytes) -> None:
        self.got, self.whole = bytearray(), -1
        self.socket.sendall(data)
        self.sent = time.perf_counter()

    def answered(self) -> bool:
        """Take what has come; whether that is all."""
        self.got += self.socket.recv(65536)
        if self.whole < 0 and (end := self.got.find(b"\r\n\r\n")) >= 0:
            head = bytes(self.got[:end]).lower()
            self.whole = end + 4 + int(head.split(b"content-length:")[1].split(b"\r\n")[0])
        return 0 <= self.whole <= len(self.got)

    @property
    def status(self) -> int:
        return int(self.got[9:12])


def ask(port: int, requests: list[bytes], clients: int, seconds: float, each: Any = lambda: None) -> tuple[float, list[float], int]:
    """Images per second, latencies in seconds, and answers that were none."""
    selector, crew, latencies, bad, number = selectors.DefaultSelector(), [], [], 0, 0
    for _ in range(clients):
        crew.append(Client(port))
        selector.register(crew[-1].socket, selectors.EVENT_READ, crew[-1])
        crew[-1].send(requests[number % len(requests)])
        number += 1
    began = time.perf_counter()
    while (now := time.perf_counter()) < began + seconds:
        each()
        for key, _ in selector.select(timeout=1):
            client: Client = key.data
            if client.answered():
                latencies.append(time.perf_counter() - client.sent)
                bad += client.status != 200
                client.send(requests[number % len(requests)])
                number += 1
    for client in crew:
        client.socket.close()
    return len(latencies) / (now - began), latencies, bad


@contextmanager
def server(model: Path, batch: int | None, engine: str) -> Iterator[tuple[int, int]]:
    """A server process: its port and process id."""
    command = [sys.executable, __file__, "--model", str(model), "--serve", str(batch or 0), "--engine", engine]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        try:
            yield int(url.rstrip("/").rpartition(":")[2]), process.pid
        finally:
            process.terminate()


def be_server(model: Path, batch: int, engine: str) -> None:
    """What `isograft serve` does, or the same with so many images per batch."""
    from isograft.inference import Answering
    from isograft.model import Model
    from isograft.serve.app import build_app
    from isograft.serve.batcher import Batcher
    from isograft.serve.guard import Rules
    from isograft.serve.server import listen, run, urls
    from isograft.serve.service import Service

    loaded = Model.load(model)
    service = Service(loaded, engine=engine)
    if batch:
        service.batcher.close()
        service.batcher = Batcher(Answering(engine_of(loaded, engine, batch)), service.judgement)
    with listen("127.0.0.1", 0) as bound:
        print(*urls("127.0.0.1", bound, ""), flush=True)
        run(build_app(service, Rules.of("127.0.0.1", True)), service, bound)
    service.close()


def engine_of(model: Any, name: str, batch: int) -> Any:
    """An engine with another batch than its own."""
    from isograft.engines.onnx_engine import OnnxEngine
    from isograft.engines.torch_engine import TorchEngine
    from isograft.export.graph import network_graph

    network = model.network()
    if name == "torch":
        return TorchEngine(network, model.preprocess, batch)
    graph = network_graph(network, model.preprocess).SerializeToString()
    return OnnxEngine(graph, model.preprocess.image_size, sum(one.numel() for one in network.parameters()), batch)


def resident(pid: int) -> float:
    """MB of memory that a process holds."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def compare(args: argparse.Namespace, requests: list[bytes]) -> dict[str, Any]:
    """Both servers, one client and several, in turns."""
    rates: dict[str, list[float]] = {}
    waits: dict[str, list[float]] = {}
    with server(args.model, None, args.engine) as (ours, pid), server(args.model, 1, args.engine) as (plain, _):
        ask(ours, requests, args.clients, 2), ask(plain, requests, args.clients, 2)
        for _ in range(args.repeats):
            for name, port in (("batched", ours), ("batch 1", plain)):
                for clients in (1, args.clients):
                    rate, latencies, bad = ask(port, requests, clients, args.seconds)
                    assert not bad, f"{bad} requests were refused"
                    rates.setdefault(f"{name}, {clients}", []).append(rate)
                    waits.setdefault(f"{name}, {clients}", []).extend(latencies)
        memory = resident(pid)
    latency = {
        name: dict(zip(("p50", "p95", "p99"), (1e3 * np.percentile(found, [50, 95, 99])).tolist(), strict=True))
        for name, found in waits.items()
    }
    rate = {name: float(np.median(found)) for name, found in rates.items()}
    many, one = rate[f"batched, {args.clients}"], rate["batched, 1"]
    ratios = {"to one client": many / one, "to one client of a server with batch 1": many / rate["batch 1, 1"]}
    ratios["to as many clients of a server with batch 1"] = many / rate[f"batch 1, {args.clients}"]
    ratios = {f"{args.clients} clients {name}": value for name, value in ratios.items()}
    return {"images_per_second": rate, "latency_ms": latency, "ratios": ratios, "resident_mb": memory}


def endure(args: argparse.Namespace, requests: list[bytes]) -> dict[str, Any]:
    """One server under load for minutes: memory at the first tenth and at the end."""
    memory: list[tuple[float, float]] = []
    with server(args.model, None, args.engine) as (port, pid):
        ask(port, requests, args.clients, 2)

        def watch() -> None:
            if not memory or time.monotonic() > memory[-1][0] + 1:
                memory.append((time.monotonic(), resident(pid)))

        rate, latencies, bad = ask(port, requests, args.clients, 60 * args.minutes, watch)
    early = [value for _, value in memory[: max(1, len(memory) // 10)]]
    late = [value for _, value in memory[-max(1, len(memory) // 10) :]]
    memory_mb = {"first_tenth": float(np.median(early)), "last_tenth": float(np.median(late)), "most": max(value for _, value in memory)}
    latency = dict(zip(("p50", "p99", "longest"), (1e3 * np.percentile(latencies, [50, 99, 100])).tolist(), strict=True))
    told = {"minutes": args.minutes, "answers": len(latencies), "images_per_second": rate, "refused": bad}
    return {**told, "memory_mb": memory_mb, "latency_ms": latency}


def main() -> None:
    asked = parser(__doc__)
    model_options(asked)
    asked.add_argument("--images", type=Path, default=IMAGES, help="folder of images")
    asked.add_argument("--count", type=int, default=256, help="how many different images")
    asked.add_argument("--clients", type=int, default=32, help="clients at one time")
    asked.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    asked.add_argument("--repeats", type=int, default=3, help="turns of the measurements")
    asked.add_argument("--minutes", type=float, default=0.0, help="instead, load one server for so long and watch its memory")
    asked.add_argument("--engine", choices=["torch", "onnxruntime"], default="torch")
    asked.add_argument("--serve", type=int, default=None, help=argparse.SUPPRESS)
    smallest = {"images": None, "count": 8, "clients": 2, "seconds": 0.5, "repeats": 1, "backbone": "test_resnet", "size": 32}
    args = arguments(asked, smallest)
    if args.serve is not None:
        be_server(args.model, args.serve, args.engine)
        return
    with described() as result, tempfile.TemporaryDirectory() as work:
        images = args.images or photographs(Path(work) / "drawn", args.count)
        requests = [request(file.read_bytes()) for file in files_of(images, args.count)]
        args.model = args.model or classifier(Path(work) / "model", images, args.backbone, args.size)
        result["engine"], result["kb_per_image"] = args.engine, sum(map(len, requests)) / len(requests) / 1024
        result |= endure(args, requests) if args.minutes else compare(args, requests)
    finish(result, args)


if __name__ == "__main__":
    main()
