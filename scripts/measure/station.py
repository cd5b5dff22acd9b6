"""Put load on a station: many uploads at once, then a live stream at full rate; latency, lost answers, memory.

    python scripts/measure/station.py --bundle bundle --images frames/ --uploads 200 --seconds 60
    python scripts/measure/station.py --bundle bundle --images frames/ --seconds 1800      half an hour's soak

The script starts ``sonoedge serve`` on a loopback port, and ends it. Requests and time are bounded.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from sonoedge.benchmarks.measure.environment import how_made, this_command
from sonoedge.edge_runtime.errors import DataError
from sonoedge.edge_runtime.imaging.image import find_images

MAX_SECONDS = 3600
"""Length of the live stream in seconds, at most."""
MEMORY_SECONDS = 1.0
"""Seconds between two readings of the memory."""
MAX_GROWTH = 0.02
"""Share by which the memory may grow."""
_UNDER_WAY = 3
"""Frames that are sent and not yet answered: one in the interpreter, one being decoded, one waiting."""


def main(argv: list[str] | None = None) -> int:
    """Run the load and print one JSON object; exit code 1 if answers are lost or memory grows by 2 % or more."""
    parser = argparse.ArgumentParser(prog="python scripts/measure/station.py", description="Load on a station.")
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True, help="folder of PNG or JPEG")
    parser.add_argument("--artifact")
    parser.add_argument("--threads", type=int, help="of the interpreter (default: cores, at most 4)")
    parser.add_argument("--uploads", type=int, default=200, help="requests at once (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=60.0, help="of live stream (default: %(default)s)")
    args = parser.parse_args(argv)
    paths = [path for path in find_images(args.images) if path.suffix.lower() in {".png", ".jpg", ".jpeg"}][:64]
    if not paths:
        raise DataError(f"No PNG or JPEG in {args.images}.")
    images = [path.read_bytes() for path in paths]
    command = [sys.executable, "-m", "sonoedge.edge_runtime", "serve", "--bundle", str(args.bundle), "--port", "0"]
    command += ["--artifact", args.artifact] if args.artifact else []
    command += ["--threads", str(args.threads)] if args.threads else []
    typed = this_command("python scripts/measure/station.py", argv)
    made = how_made([typed], weights=f"those of the bundle {args.bundle.name}", threads=args.threads)
    began = time.perf_counter()
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            url = _address(process)
            first_page, ready = _start_times(url, began)
            report: dict[str, Any] = {**made, "first_page_s": first_page, "ready_s": ready}
            report["uploads"] = _uploads(url, images, args.uploads)
            report["live"] = _live(url, images, min(args.seconds, MAX_SECONDS), process.pid)
        finally:
            process.terminate()
            process.wait(timeout=30)
    print(json.dumps(report, indent=2))
    lost = args.uploads - report["uploads"]["answered"] + report["live"]["lost"]
    return int(lost != 0 or report["live"]["growth"] >= MAX_GROWTH)


def _address(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    for line in process.stderr:
        if found := re.search(r"open (http\S+)", line):
            return found[1]
    raise DataError("The station did not start.")


def _start_times(url: str, began: float) -> tuple[float, float]:
    import httpx

    page = None
    while True:
        try:
            if page is None and httpx.get(url).status_code == 200:
                page = round(time.perf_counter() - began, 3)
            if page is not None and httpx.get(f"{url}healthz").status_code == 200:
                return page, round(time.perf_counter() - began, 3)
        except httpx.ConnectError:
            pass
        time.sleep(0.02)


def _uploads(url: str, images: list[bytes], count: int) -> dict[str, Any]:
    import httpx

    client = httpx.Client(base_url=url, timeout=600, limits=httpx.Limits(max_connections=count))

    def ask(index: int) -> tuple[int, float]:
        start = time.perf_counter()
        response = client.post("v1/predict", files={"image": images[index % len(images)]})
        return response.status_code, time.perf_counter() - start

    start = time.perf_counter()
    with client, ThreadPoolExecutor(count) as pool:
        answers = list(pool.map(ask, range(count)))
    seconds = time.perf_counter() - start
    waits = [wait for _, wait in answers]
    return {
        "at_once": count,
        "answered": sum(status == 200 for status, _ in answers),
        "per_second": round(count / seconds, 2),
        "p50_s": round(float(np.percentile(waits, 50)), 3),
        "p99_s": round(float(np.percentile(waits, 99)), 3),
    }


def _live(url: str, images: list[bytes], seconds: float, pid: int) -> dict[str, Any]:
    """Send as many frames as the station takes, three under way at a time; each is answered or counted as dropped.

    The overhead of the pipeline is the time between two answers, less the interpreter's time for the second.
    """
    from websockets.sync.client import connect

    totals, bare, between, memory = [], [], [], []
    sent = answered = dropped = 0
    start = sampled = last = time.perf_counter()
    with connect(url.replace("http", "ws") + "v1/live", max_size=None) as stream:
        while (now := time.perf_counter()) < start + seconds or answered < sent:
            while sent - answered < _UNDER_WAY and now < start + seconds:
                stream.send(images[sent % len(images)])
                sent += 1
            answer = json.loads(stream.recv(timeout=120))
            answered, dropped = answer["frame"], answer["dropped"]
            received = time.perf_counter()
            between.append(1e3 * (received - last))
            last = received
            totals.append(answer["total_ms"])
            bare.append(answer["latency_ms"]["invoke"] + answer["latency_ms"]["head"])
            if now - sampled >= MEMORY_SECONDS:
                sampled = now
                memory.append(_resident_mb(pid))
        elapsed = time.perf_counter() - start
    total, inference, interval = (
        dict(zip(("p50_ms", "p90_ms"), np.percentile(values, (50, 90)).round(2).tolist(), strict=True))
        for values in (totals, bare, between)
    )
    return {
        "seconds": round(elapsed, 1),
        "frames": len(totals),
        "per_second": round(len(totals) / elapsed, 2),
        "dropped": dropped,
        "lost": sent - len(totals) - dropped,
        "in_the_station": total,
        "inference": inference,
        "between_answers": interval,
        "overhead": {key[:3]: round(interval[key] / inference[key] - 1, 4) for key in interval},
        **growth([*memory, _resident_mb(pid)]),
    }


def growth(memory: list[float]) -> dict[str, Any]:
    """Resident memory in MB, and its relative growth from the second fifth of a stream to the last.

    Medians, since single samples jump with the allocator; the first fifth is warming up.
    """
    fifth = max(1, len(memory) // 5)
    settled = float(np.median(memory[fifth : 2 * fifth] or memory[-1:]))
    last = float(np.median(memory[-fifth:]))
    return {
        "resident_mb": [round(settled, 1), round(last, 1)],
        "peak_mb": round(max(memory), 1),
        "growth": round(last / settled - 1, 4),
    }


def _resident_mb(pid: int) -> float:
    text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return int(re.findall(r"VmRSS:\s+(\d+) kB", text)[0]) / 1024


if __name__ == "__main__":
    sys.exit(main())
