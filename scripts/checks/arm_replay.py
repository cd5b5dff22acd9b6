"""Run every artifact of a bundle under qemu-user and here, compare decisions, print a table.

``scripts/checks/arm.sh`` builds the roots and calls this script. It compares what the command line prints and
writes.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

# Whether a runtime gets /proc and /sys. Under emulation LiteRT and ONNX Runtime crash with them, OpenVINO hangs
# without them.
NEEDS_SYSTEM = {"tflite": False, "openvino": True, "onnx": False}
RUNS_ON = {"arm64": ("tflite", "openvino", "onnx"), "armhf": ("tflite",)}
PACKAGE = {"tflite": "ai_edge_litert", "openvino": "openvino", "onnx": "onnxruntime"}
ENVIRONMENT = {
    "arm64": {"PYTHONPATH": "/opt/site:/opt/extra"},
    "armhf": {
        "PYTHONPATH": "/opt/site",
        "LD_LIBRARY_PATH": "/usr/lib/arm-linux-gnueabihf/blas:/usr/lib/arm-linux-gnueabihf/lapack",
    },
}


# Several commands in one process: emulated, the start alone takes ten seconds.
COMMANDS = """
import json, sys
from sonoedge.edge_runtime.cli import main
for arguments in json.loads(sys.argv[1]):
    print(json.dumps({"exit": main(arguments)}), flush=True)
"""


@dataclass(frozen=True)
class Target:
    """An emulated machine, or this one (``arch`` empty)."""

    arch: str
    cpu: str

    @property
    def name(self) -> str:
        """Architecture and processor, or ``here``."""
        return f"{self.arch} {self.cpu}" if self.arch else "here"

    def command(self, work: Path, commands: list[list[str]], runtime: str) -> list[str]:
        """The command line that runs ``sonoedge`` commands on this target, one after the other.

        Args:
            work: folder of the roots.
            commands: arguments of each command; paths are those inside the root.
            runtime: of the artifact.
        """
        python = ["-c", COMMANDS, json.dumps(commands)]
        if not self.arch:
            return [sys.executable, *python]
        root = work / self.arch
        settings = {"HOME": "/tmp", "LC_ALL": "C.UTF-8", **ENVIRONMENT[self.arch]}
        emulated = ["chroot", str(root), "/qemu", "-cpu", self.cpu]
        for name, value in settings.items():
            emulated += ["-E", f"{name}={value}"]
        emulated += ["/usr/bin/python3.11", *python]
        if not NEEDS_SYSTEM[runtime]:
            return emulated
        proc, sys_folder = shlex.quote(str(root / "proc")), shlex.quote(str(root / "sys"))
        mounts = f"mount -t proc proc {proc} && mount --rbind /sys {sys_folder}"
        return ["unshare", "-m", "sh", "-c", f"{mounts} && exec {shlex.join(emulated)}"]


def main() -> int:
    """Run, compare and print the table; exit code 1 if a decision differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--targets", required=True)
    parser.add_argument("--artifacts")
    args = parser.parse_args()
    artifacts = json.loads((args.bundle / "bundle.json").read_text())["artifacts"]
    if args.artifacts:
        artifacts = [a for a in artifacts if a["name"] in args.artifacts.split(",")]
    images = choose(args.images, args.count)
    key = f"{args.bundle.name}-{digest(args.bundle)}-{len(images)}"
    results = args.work / "results" / key
    results.mkdir(parents=True, exist_ok=True)
    targets = [Target(*name.split(":")) for name in args.targets.split(",")]
    for arch in {target.arch for target in targets}:
        stage(args.bundle, args.images, images, args.work / arch)
    rows, good = [], True
    for artifact in artifacts:
        local = run(Target("", ""), artifact, args.bundle, args.images, images, args.work, results)
        for target in targets:
            if artifact["runtime"] in RUNS_ON[target.arch]:
                there = run(target, artifact, Path("/job/bundle"), Path("/job/images"), images, args.work, results)
                row, same = compare(
                    artifact["name"], target, interpreter(args.work, target, artifact), local, there
                )
                rows.append(row)
                good &= same
                print(row, flush=True)
    titles = ("artifact", "target", "interpreter", "replay", "equal decisions", "logit difference")
    head = f"| {' | '.join(titles)} | map correlation: median (lowest) |"
    table = "\n".join([head, "|---|---|---|---|---|---|---|", *rows])
    (results / "table.md").write_text(table + "\n")
    print(f"\n{table}\n\n{results / 'table.md'}\n{'all decisions agree' if good else 'DIFFERENT'}")
    return 0 if good else 1


def choose(folder: Path, count: int) -> list[str]:
    """Relative paths of ``count`` images, spread evenly over the sorted list of all; masks are left out."""
    names = sorted(
        p.relative_to(folder).as_posix()
        for p in folder.rglob("*.png")
        if "masks" not in p.relative_to(folder).parts
    )
    step = max(1, len(names) // count)
    return names[::step][:count]


def digest(bundle: Path) -> str:
    """Twelve digits of the SHA-256 of a bundle's SHA256SUMS."""
    import hashlib

    return hashlib.sha256((bundle / "SHA256SUMS").read_bytes()).hexdigest()[:12]


def stage(bundle: Path, folder: Path, images: list[str], root: Path) -> None:
    """Copy bundle and images into a root."""
    job = root / "job"
    shutil.rmtree(job, ignore_errors=True)
    shutil.copytree(bundle, job / "bundle")
    for name in images:
        (job / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / name, job / "images" / name)
    for name in ("proc", "sys", "tmp"):
        (root / name).mkdir(exist_ok=True)


def run(
    target: Target, artifact: dict, bundle: Path, folder: Path, images: list[str], work: Path, results: Path
) -> dict:
    """Run ``verify``, then ``predict`` with explanations, for one artifact on one target.

    The result is kept in a file, so that an interrupted check goes on.
    """
    kept = results / f"{artifact['name']}.{target.name.replace(' ', '-')}.json"
    if kept.exists():
        return json.loads(kept.read_text())
    name, start = artifact["name"], time.time()
    explained = results / f"{name}.{target.name.replace(' ', '-')}"
    out = "/job/explained" if target.arch else str(explained)
    verify = ["verify", str(bundle), "--artifact", name, "--json", "--in-process"]
    predict = ["predict", "--bundle", str(bundle), "--artifact", name, "--json", "--explain", out]
    environment = {k: v for k, v in os.environ.items() if k not in {"LD_PRELOAD", "SONOEDGE_POLICY"}}
    if target.arch:
        environment.pop("PYTHONPATH", None)
    paths = [str(folder / image) for image in images]
    command = target.command(work, [verify, [*predict, *paths]], artifact["runtime"])
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if target.arch:
        shutil.rmtree(explained, ignore_errors=True)
        inside = work / target.arch / out[1:]
        if inside.exists():
            shutil.move(inside, explained)
    body = {"code": done.returncode, "err": done.stderr[-2000:], "seconds": round(time.time() - start)}
    body |= {"lines": [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]}
    body["maps"] = {path.stem: np.load(path)["cam"].tolist() for path in sorted(explained.rglob("*.npz"))}
    kept.write_text(json.dumps(body))
    return body


def interpreter(work: Path, target: Target, artifact: dict) -> str:
    """Package and version of the interpreter in the root."""
    package = "tflite_runtime" if target.arch == "armhf" else PACKAGE[artifact["runtime"]]
    found = [
        p.name.removesuffix(".dist-info") for p in (work / target.arch / "opt").glob(f"*/{package}-*.dist-info")
    ]
    return found[0].replace("-", " ") if found else "?"


def compare(name: str, target: Target, interpreter: str, local: dict, there: dict) -> tuple[str, bool]:
    """A row of the table, and whether replay, decisions and number of explanations are as they must be."""
    ours, theirs = predictions(local), predictions(there)
    both = ours.keys() & theirs.keys()
    equal = sum(theirs[k]["label"] == ours[k]["label"] for k in both)
    largest = max((abs(theirs[k]["logit"] - ours[k]["logit"]) for k in both), default=float("nan"))
    replay = next((line["artifacts"][0] for line in there["lines"] if "artifacts" in line), None)
    if replay is None:
        verdict = f"FAILED (exit code {there['code']}: {there['err'][-120:].strip()})"
    else:
        verdict = f"{'ok' if replay['passed'] else 'FAILED'}, {replay['replay_error']:.1e}"
    maps = [correlation(cam, there["maps"][stem]) for stem, cam in local["maps"].items() if stem in there["maps"]]
    good = bool(replay and replay["passed"]) and equal == len(ours) == len(maps) > 0
    cells = (name, target.name, interpreter, verdict, f"{equal} of {len(ours)}", f"{largest:.1e}")
    # The lowest may be far off: if a hidden unit is at its kink, one bit of the features decides on its gradient.
    middle, lowest = (float(np.median(maps)), min(maps)) if maps else (float("nan"), float("nan"))
    return f"| {' | '.join(cells)} | {middle:.5f} ({lowest:.3f}) |", good


def predictions(body: dict) -> dict[str, dict]:
    """The JSON lines of ``predict``, by name of the image."""
    return {Path(line["image"]).name: line for line in body["lines"] if "image" in line}


def correlation(a: list, b: list) -> float:
    """Correlation of two heat maps. If one is constant (the ReLU may leave zeros): 1 if they are equal, else 0."""
    first, second = np.ravel(a), np.ravel(b)
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return float(np.array_equal(first, second))
    return float(np.corrcoef(first, second)[0, 1])


if __name__ == "__main__":
    sys.exit(main())
