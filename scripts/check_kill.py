"""Kill -9 train, export and benchmark at random moments; nothing may be lost or half-written.

    python scripts/check_kill.py [--kills 200] [--seed 1] [--json]

After every kill the previous output must be there and whole, or the new one; nothing in between. At the end every
command runs through, with what the killed ones left in the caches, gives what it gives without kills, and leaves no
abandoned folder behind. Tiny untrained backbones; each attempt is a fork of a process that has imported everything
already, so that kills fall on the work and not on the imports. POSIX only.
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
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["CUDA_VISIBLE_DEVICES"] = ""
HANG_SECONDS = 300


def main() -> int:
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
            print(
                f"{name:<10} {row['seconds']:6.1f} s undisturbed; {row['kills']} kills, {row['finished']} finished"
            )
        print(f"{body['kills']} kills, {len(body['losses'])} losses")
        print("\n".join(body["losses"]))
    return int(bool(body["losses"]))


def check(folder: Path, kills: int, source: random.Random, seconds: float) -> dict[str, Any]:
    """Kill until ``kills`` attempts have died or the time is over, alternating between the commands."""
    end = time.monotonic() + seconds
    prepare()
    from train.phantoms import generate_phantoms

    data = generate_phantoms(folder / "phantoms", cases_per_class=10)
    commands = arguments(folder, data)
    undisturbed, results = {}, {}
    for name, command in commands.items():
        for _ in range(2):  # the first fills the caches
            started = time.monotonic()
            if (code := wait(spawn(command, folder / f"{name}.log"))) != 0:
                log = (folder / f"{name}.log").read_text()
                raise SystemExit(f"{name} fails undisturbed ({code}):\n{log[-2000:]}")
            undisturbed[name] = time.monotonic() - started
        results[name] = read(name, folder)
        if not results[name].startswith(("(", "[")):
            raise SystemExit(f"{name}, undisturbed, cannot be read: {results[name]}")
    dead: Counter[str] = Counter()
    finished: Counter[str] = Counter()
    losses: list[str] = []
    while dead.total() < kills and time.monotonic() < end:
        for name, command in commands.items():
            if source.random() < 0.3:
                forget_cache(folder, source)
            moment = source.uniform(0.0, 1.1 * undisturbed[name])
            pid = spawn(command, folder / f"{name}.log")
            time.sleep(moment)
            os.kill(pid, signal.SIGKILL)
            died = wait(pid) == -signal.SIGKILL
            dead[name] += died
            finished[name] += not died
            if (found := read(name, folder)) != results[name]:
                losses.append(f"{name} killed after {moment:.3f} s: {found}")
    for name, command in commands.items():
        if wait(spawn(command, folder / f"{name}.log")) != 0 or read(name, folder) != results[name]:
            losses.append(f"{name} does not run through after the kills")
    left = [p.name for p in folder.iterdir() if p.name.startswith(".") and p.is_dir()]
    losses += [f"abandoned: {name}" for name in left]
    rows = {
        name: {"seconds": round(undisturbed[name], 2), "kills": dead[name], "finished": finished[name]}
        for name in commands
    }
    return {"kills": dead.total(), "losses": losses, "commands": rows}


def prepare() -> None:
    """Import all that the commands import, and register two tiny backbones.

    Nothing may be computed here: a fork of a process whose TensorFlow has started its threads hangs.
    """
    import keras

    for module in ("benchmarks.command", "export.command", "export.pipeline", "train.command", "train.training"):
        import_module(module)
    from train.backbones import BACKBONES, Backbone

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
    """The commands; each replaces its own earlier output, and reads that of the one before."""
    run, bundle = folder / "run", folder / "bundle"
    train = ["train", "--data", data, "--out", run, "--overwrite", "--backbones", "tiny_a,tiny_b", "--quiet"]
    train += ["--weights", "none", "--input-size", 32, "--units", 8, "--protocol", "paper"]
    export = ["export", "--model", run, "--out", bundle, "--format", "tflite-fp32,openvino-fp32", "--quiet"]
    benchmark = ["benchmark", "--bundle", bundle, "--data", data, "--out", folder / "report", "--quiet"]
    benchmark += ["--mode", "none", "--no-peers", "--no-gallery", "--max-images", 12]
    commands = {"train": train, "export": export, "benchmark": benchmark}
    return {name: [str(word) for word in command] for name, command in commands.items()}


def spawn(command: list[str], log: Path) -> int:
    """Run ``sonoedge COMMAND`` in a fork; returns its process id."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        from edge_runtime.cli import main as sonoedge

        code = sonoedge(command)
    except SystemExit as error:
        code = int(error.code or 0)
    finally:
        sys.stdout.flush()
        os._exit(code)


def wait(pid: int) -> int:
    """Exit code, or minus the signal; a process that hangs is killed and counts as -14 (SIGALRM)."""
    end = time.monotonic() + HANG_SECONDS
    while time.monotonic() < end:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return -signal.SIGALRM


def read(name: str, folder: Path) -> str:
    """`content` as text, read by a fork; what is not whole reads as its error."""
    answer = folder / "content.txt"
    answer.unlink(missing_ok=True)
    pid = os.fork()
    if not pid:
        handle = os.open(os.devnull, os.O_WRONLY)
        os.dup2(handle, 2)
        try:
            answer.write_text(repr(content(name, folder)))
        except BaseException as error:  # noqa: BLE001 – any way of not being readable is a loss
            answer.write_text(f"{type(error).__name__}: {error}")
        os._exit(0)
    code = wait(pid)
    return answer.read_text() if answer.exists() else f"the reader ended with {code}"


def content(name: str, folder: Path) -> Any:
    """What a command's output says, read as its users read it; raises where it is not whole.

    Times and dates are left out, and so are the bytes of a model file (Keras writes the date into them).
    """
    import numpy as np

    if name == "train":
        from train.model import load_model
        from train.run_folder import open_run

        run = open_run(folder / "run")
        weights = load_model(folder / "run").get_weights()
        return run.split.labels, run.threshold, [float(np.abs(w).sum()) for w in weights]
    if name == "export":
        from edge_runtime.bundle import load_bundle
        from edge_runtime.verify import load_golden

        bundle = load_bundle(folder / "bundle")
        golden = load_golden(bundle)
        return [a.name for a in bundle.artifacts], golden["reference_logit"].tolist()
    report = json.loads((folder / "report/report.json").read_text())
    pages = [(folder / "report" / page).read_text() for page in ("report.html", "report.md")]
    assert "</html>" in pages[0] and pages[1].strip()
    return sorted(report)


def forget_cache(folder: Path, source: random.Random) -> None:
    """Remove a cached file, or damage one: half of its bytes, as a full disk or a bad card leaves them."""
    files = [p for p in (folder / "cache").rglob("*") if p.is_file()]
    if files:
        victim = source.choice(files)
        if source.random() < 0.5:
            victim.unlink()
        else:
            victim.write_bytes(victim.read_bytes()[: victim.stat().st_size // 2])


if __name__ == "__main__":
    sys.exit(main())
