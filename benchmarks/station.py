"""Load on a station: uploads at once, then a live stream at full rate; latency, lost answers, memory.

    python -m benchmarks.station --bundle bundle --images frames/ --uploads 200 --seconds 60

Starts ``sonoedge serve`` on a loopback port, and ends it. Bounded in requests and time.
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

from edge_runtime.errors import DataError
from edge_runtime.image import find_images

MAX_SECONDS = 3600


def main(argv: list[str] | None = None) -> int:
    """Run the load and print one JSON object."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.station", description="Load on a station.")
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True, help="folder of PNG or JPEG")
    parser.add_argument("--artifact")
    parser.add_argument("--uploads", type=int, default=200, help="requests at once (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=60.0, help="of live stream (default: %(default)s)")
    args = parser.parse_args(argv)
    paths = [path for path in find_images(args.images) if path.suffix.lower() in {".png", ".jpg", ".jpeg"}][:64]
    if not paths:
        raise DataError(f"No PNG or JPEG in {args.images}.")
    images = [path.read_bytes() for path in paths]
    command = [sys.executable, "-m", "edge_runtime", "serve", "--bundle", str(args.bundle), "--port", "0"]
    command += ["--artifact", args.artifact] if args.artifact else []
    began = time.perf_counter()
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            url = _address(process)
            first_page, ready = _start_times(url, began)
            report: dict[str, Any] = {"first_page_s": first_page, "ready_s": ready}
            report["uploads"] = _uploads(url, images, args.uploads)
            report["live"] = _live(url, images, min(args.seconds, MAX_SECONDS), process.pid)
        finally:
            process.terminate()
            process.wait(timeout=30)
    print(json.dumps(report, indent=2))
    return 0


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
    """As many frames as the station takes, two under way at a time."""
    from websockets.sync.client import connect

    overheads, totals, memory = [], [], []
    sent = answered = 0
    end = time.perf_counter() + seconds
    with connect(url.replace("http", "ws") + "v1/live", max_size=None) as stream:
        while time.perf_counter() < end:
            while sent - answered < 2:
                stream.send(images[sent % len(images)])
                sent += 1
            answer = json.loads(stream.recv(timeout=120))
            answered = answer["frame"]
            latency = answer["latency_ms"]
            bare = latency["invoke"] + latency["head"]
            totals.append(answer["total_ms"])
            overheads.append((answer["total_ms"], bare))
            if len(totals) % 10 == 0:
                memory.append(_resident_mb(pid))
        dropped = answer["dropped"]
    total = np.percentile([t for t, _ in overheads], 90)
    bare = np.percentile([b for _, b in overheads], 90)
    settled = memory[len(memory) // 5 :] or [_resident_mb(pid)]
    return {
        "seconds": seconds,
        "frames": len(totals),
        "per_second": round(len(totals) / seconds, 2),
        "dropped": dropped,
        "total_p90_ms": round(float(total), 2),
        "inference_p90_ms": round(float(bare), 2),
        "overhead_p90": round(float(total / bare - 1), 4),
        "resident_mb": [round(settled[0], 1), round(settled[-1], 1)],
        "growth": round(settled[-1] / settled[0] - 1, 4),
    }


def _resident_mb(pid: int) -> float:
    text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return int(re.findall(r"VmRSS:\s+(\d+) kB", text)[0]) / 1024


if __name__ == "__main__":
    sys.exit(main())
