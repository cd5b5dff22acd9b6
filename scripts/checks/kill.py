"""Kill -9 train, export (float and int8) and benchmark at random points; nothing may be lost or half-written.

    python scripts/checks/kill.py [--kills 200] [--seed 1] [--json]

Every other kill comes after a random share of the processor time that the command takes (not of wall-clock time: on
a busy machine most kills would fall on its beginning). The others come just before a random file operation of the
command. After every kill either the previous output or the new one must be there and whole. At the end every
command must run through with the caches that the killed ones left. It must give what it gives without kills, and no
abandoned file may be left. Backbones are tiny and untrained. Each attempt is a fork of a process that has imported
everything already, so that kills fall on the work and not on the imports. Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["CUDA_VISIBLE_DEVICES"] = ""

from scripts.checks.kill_processes import kill_after, read, spawn, wait


def main() -> int:
    """Kill, check and print the counts; exit code 1 if something was lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=7200.0, help="start no further round after this time")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sonoedge-kill-") as scratch:
        os.environ["XDG_CACHE_HOME"] = str(Path(scratch) / "cache")
        body = check(Path(scratch), args.kills, random.Random(args.seed), args.seconds)
    body["seed"] = args.seed
    if args.json:
        print(json.dumps(body))
    else:
        for name, row in body["commands"].items():
            print(f"{name}: " + ", ".join(f"{value} {key.replace('_', ' ')}" for key, value in row.items()))
        print(f"{body['kills']} kills, {len(body['losses'])} losses")
        print("\n".join(body["losses"]))
    return int(bool(body["losses"]))


@dataclass
class Command:
    """A command, with its cost and result without kills, and the counts of what happened to it."""

    words: list[str]
    cpu_seconds: float = 0.0
    file_operations: int = 0
    result: str = ""
    counts: Counter[str] = field(default_factory=Counter)


def check(folder: Path, kills: int, source: random.Random, seconds: float) -> dict[str, Any]:
    """Kill until ``kills`` attempts have died or the time is over, alternating between the commands."""
    end = time.monotonic() + seconds
    prepare()
    from sonoedge.train.simulation.phantoms import generate_phantoms

    data = generate_phantoms(folder / "phantoms", cases_per_class=10)
    commands = {name: Command(words) for name, words in arguments(folder, data).items()}
    for name, command in commands.items():
        undisturbed(name, command, folder)
    losses: list[str] = []
    dead = 0
    while dead < kills and time.monotonic() < end:
        for name, command in commands.items():
            at_file = command.counts.total() % 2 == 1
            if source.random() < 0.3:
                forget_cache(folder, source)
            if at_file:
                point = source.randrange(command.file_operations)
                died = wait(spawn(command.words, folder, kill_before=point)) == -signal.SIGKILL
                where = f"before file operation {point}"
            else:
                moment = source.uniform(0.0, command.cpu_seconds)
                died = kill_after(spawn(command.words, folder), moment)
                where = f"after {moment:.3f} s of processor time"
            command.counts[("file" if at_file else "time") if died else "finished"] += 1
            dead += died
            if (found := read(name, folder)) != command.result:
                losses.append(f"{name} killed {where}: {found}")
    for name, command in commands.items():
        if wait(spawn(command.words, folder)) != 0 or read(name, folder) != command.result:
            losses.append(f"{name} does not run through after the kills")
    abandoned = [*folder.glob(".*"), *(folder / "cache").rglob(".*")]
    losses += [f"abandoned: {path.relative_to(folder)}" for path in abandoned]
    rows = {
        name: {
            "cpu_seconds": round(command.cpu_seconds, 2),
            "file_operations": command.file_operations,
            "killed_at_time": command.counts["time"],
            "killed_at_file": command.counts["file"],
            "finished": command.counts["finished"],
        }
        for name, command in commands.items()
    }
    return {"kills": dead, "losses": losses, "commands": rows}


def undisturbed(name: str, command: Command, folder: Path) -> None:
    """Run a command twice without kills (the first run fills the caches), and note its cost and its result."""
    counter = folder / "operations.txt"
    for _ in range(2):
        if (code := wait(spawn(command.words, folder, count_in=counter))) != 0:
            log = (folder / f"{command.words[0]}.log").read_text()
            raise SystemExit(f"{name} fails undisturbed ({code}):\n{log[-2000:]}")
    operations, cpu_seconds = counter.read_text().split()
    command.file_operations, command.cpu_seconds = int(operations), float(cpu_seconds)
    command.result = read(name, folder)
    if not command.result.startswith(("(", "[")):
        raise SystemExit(f"{name}, undisturbed, cannot be read: {command.result}")


def prepare() -> None:
    """Import everything that the commands import, and register two tiny backbones.

    Nothing may be computed here: if TensorFlow has started its threads, a fork of the process hangs.
    """
    import keras

    modules = (
        "sonoedge.benchmarks.api",
        "sonoedge.benchmarks.commands.benchmark",
        "sonoedge.export.commands.export",
        "sonoedge.export.guard.int8",
        "sonoedge.export.bundle.pipeline",
        "sonoedge.train.commands.train",
    )
    for module in (*modules, "sonoedge.train.fitting.trainer", "litert_quantizer.quantizer"):
        import_module(module)
    from sonoedge.train.models.backbones import BACKBONES, Backbone

    def application(width: int) -> Any:
        def build(*, include_top: bool, weights: str | None, input_shape: tuple, name: str) -> keras.Model:
            image = keras.Input(input_shape)
            x = keras.layers.Conv2D(width, 3, strides=2, activation="relu", name="first")(image)
            x = keras.layers.Conv2D(width, 3, strides=2, activation="relu", name="last")(x)
            return keras.Model(image, x, name=name)

        return build

    for name, width in (("tiny_a", 4), ("tiny_b", 6)):
        setattr(keras.applications, name, application(width))
        BACKBONES[name] = Backbone(name, f"{name}.h5", scale=(1 / 127.5,) * 3, offset=(-1.0,) * 3)


def arguments(folder: Path, data: Path) -> dict[str, list[str]]:
    """The commands by name; each replaces its own earlier output and reads the output of an earlier command."""
    run, bundle = folder / "run", folder / "bundle"
    train = ["train", "--data", data, "--out", run, "--overwrite", "--backbones", "tiny_a,tiny_b", "--quiet"]
    train += ["--weights", "none", "--input-size", 32, "--units", 8, "--protocol", "paper"]
    train += ["--epochs", 3]  # kills are to fall on the writing, not on the learning
    export = ["export", "--model", run, "--out", bundle, "--format", "tflite-fp32,openvino-fp32", "--quiet"]
    # Without the search, whose choice may depend on latency.
    int8 = ["export", "--model", run, "--out", folder / "int8", "--format", "tflite-int8", "--precision", "w8a8"]
    int8 += ["--num-calibration-samples", 10, "--quiet"]
    benchmark = ["benchmark", "--bundle", bundle, "--data", data, "--out", folder / "report", "--quiet"]
    benchmark += ["--mode", "none", "--no-peers", "--no-gallery", "--max-images", 12]
    commands = {"train": train, "export": export, "export int8": int8, "benchmark": benchmark}
    return {name: [str(word) for word in command] for name, command in commands.items()}


def forget_cache(folder: Path, source: random.Random) -> None:
    """Remove a random cached file, or cut it to half of its bytes, as a full disk or a bad card may do."""
    files = [p for p in (folder / "cache").rglob("*") if p.is_file()]
    if files:
        victim = source.choice(files)
        if source.random() < 0.5:
            victim.unlink()
        else:
            victim.write_bytes(victim.read_bytes()[: victim.stat().st_size // 2])


if __name__ == "__main__":
    sys.exit(main())
