"""Kill -9 `sonoedge install` at random moments; the device must be left with the old bundle or the new one, whole.

    python scripts/checks/kill_install.py [--kills 50] [--seed 1] [--json] [BUNDLE OTHER]

Two bundles replace each other (default: those of tests/vectors). The kills come in turns: just before a random file
operation of the command, after a random share of its processor time, and after a random share of its time by the
clock (the health check runs in a child, so most of that time). After every kill ``current`` must be the old or the
new bundle, its digests must be right, and it must answer a golden image as it did at its export. At the end an
install and a rollback must run through, and nothing abandoned may be left. Linux only.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from scripts.checks.kill_processes import kill_after, spawn, wait

VECTORS = Path(__file__).resolve().parents[2] / "tests/vectors"
KINDS = ("file operation", "processor time", "clock")


def main() -> int:
    """Kill, check and print the counts; exit code 1 if something was lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", nargs="*", type=Path, default=[VECTORS / "bundle", VECTORS / "cascade"])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if len(args.bundles) != 2:
        parser.error("name two bundles, or none")
    with tempfile.TemporaryDirectory(prefix="sonoedge-kill-") as scratch:
        body = check(Path(scratch), [path.resolve() for path in args.bundles], args.kills, random.Random(args.seed))
    body["seed"] = args.seed
    if args.json:
        print(json.dumps(body))
    else:
        print(f"{body['kills']} kills: " + ", ".join(f"{n} by {kind}" for kind, n in body["by"].items()))
        print(f"they left the old bundle {body['old']} times, the new one {body['new']} times")
        print(f"{body['finished']} more installs ended before their kill")
        print(f"{len(body['losses'])} losses", *body["losses"], sep="\n")
    return int(bool(body["losses"]))


def check(scratch: Path, bundles: list[Path], kills: int, source: random.Random) -> dict[str, Any]:
    """Kill until ``kills`` installs have died."""
    # Imported before the forks, so that kills fall on the work.
    import sonoedge.edge_runtime.commands.install  # noqa: F401
    from sonoedge.edge_runtime.bundle.checksums import bundle_digest

    place = scratch / "device"
    digests = [bundle_digest(path) for path in bundles]
    words = [["install", str(path), "--to", str(place)] for path in bundles]
    operations, cpu_seconds, seconds = undisturbed(words, scratch)
    before, losses = digests[1], []
    by: Counter[str] = Counter(dict.fromkeys(KINDS, 0))
    left: Counter[str] = Counter(old=0, new=0, finished=0)
    for turn in itertools.count():
        if by.total() == kills:
            break
        target, kind = 1 - digests.index(before), KINDS[turn % len(KINDS)]
        if kind == "file operation":
            point: float = source.randrange(operations)
            died = wait(spawn(words[target], scratch, kill_before=int(point))) == -signal.SIGKILL
        elif kind == "processor time":
            point = source.uniform(0.0, cpu_seconds)
            died = kill_after(spawn(words[target], scratch), point)
        else:
            point = source.uniform(0.0, seconds)
            pid = spawn(words[target], scratch)
            time.sleep(point)
            os.kill(pid, signal.SIGKILL)
            died = wait(pid) == -signal.SIGKILL
        by[kind] += died
        found = in_use(place, scratch)
        if found not in (before, digests[target]):
            losses.append(f"killed by {kind} at {point:.3f}: {found}")
            break  # there is nothing to go on with
        left["finished" if not died else "old" if found == before else "new"] += 1
        before = found
    return {"kills": by.total(), "by": dict(by), **left, "losses": losses + at_the_end(words, digests, scratch)}


def undisturbed(words: list[list[str]], scratch: Path) -> tuple[int, float, float]:
    """Install both bundles without kills; file operations, processor time and time of the second install."""
    counter = scratch / "operations.txt"
    for line in words:
        start = time.monotonic()
        if (code := wait(spawn(line, scratch, count_in=counter))) != 0:
            raise SystemExit(f"install fails undisturbed ({code}): {(scratch / 'install.log').read_text()[-2000:]}")
        seconds = time.monotonic() - start
    operations, cpu_seconds = counter.read_text().split()
    return int(operations), float(cpu_seconds), seconds


def in_use(place: Path, scratch: Path) -> str:
    """The digest of the bundle in use if it is whole and answers as at its export, else why not; in a fork."""
    answer = scratch / "answer.txt"
    answer.unlink(missing_ok=True)
    pid = os.fork()
    if not pid:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # interpreters chatter
        try:
            answer.write_text(_asked(place / "current"))
        except BaseException as error:  # noqa: BLE001 – any way of not answering is a loss
            answer.write_text(f"{type(error).__name__}: {error}")
        os._exit(0)
    code = wait(pid)
    return answer.read_text() if answer.exists() else f"the reader ended with {code}"


def _asked(path: Path) -> str:
    from sonoedge.edge_runtime.bundle.checksums import bundle_digest
    from sonoedge.edge_runtime.device.replay import load_golden
    from sonoedge.edge_runtime.model.classifier import Classifier

    classifier = Classifier(path)
    golden = load_golden(classifier.bundle)
    prediction, _ = classifier.explain_raw(golden["image_0"])
    name = classifier.artifact.name
    error = abs(prediction.logit - float(golden[f"{name}.logit"][0]))
    if not error <= golden[f"{name}.tolerance"][0]:
        return f"{name} answers otherwise: {error:.2e}"
    return bundle_digest(classifier.bundle.path)


def at_the_end(words: list[list[str]], digests: list[str], scratch: Path) -> list[str]:
    """What is wrong after an install of each bundle and a rollback without kills."""
    place, wrong = scratch / "device", []
    for line, digest in zip(words, digests, strict=True):
        if wait(spawn(line, scratch)) != 0 or in_use(place, scratch) != digest:
            wrong.append(f"install does not run through after the kills: {(scratch / 'install.log').read_text()}")
    if abandoned := [*place.glob(".*"), *(place / "versions").glob(".*")]:
        wrong.append(f"abandoned: {', '.join(path.name for path in abandoned)}")
    if (count := len(list((place / "versions").iterdir()))) != 2:
        wrong.append(f"{count} versions are kept")
    if (
        wait(spawn(["install", "--to", str(place), "--rollback"], scratch)) != 0
        or in_use(place, scratch) != digests[0]
    ):
        wrong.append("the rollback does not run through after the kills")
    return wrong


if __name__ == "__main__":
    sys.exit(main())
