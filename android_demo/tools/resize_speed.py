"""resize_speed.py CLASS_PATH: preprocessing of a 1024x768 picture, Kotlin against Pillow, one call each in turn."""

import os
import subprocess
import sys
from statistics import median
from time import perf_counter

import numpy as np

from sonoedge.edge_runtime.imaging.image import resize

ROUNDS = 200


def main(class_path: str) -> int:
    """Prints both times; 1 where Kotlin needs more than twice as long."""
    image = np.random.default_rng(1).integers(0, 256, (768, 1024, 3), np.uint8)
    core = min(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {core})
    # The JVM compiles and collects in threads of its own: both programs get the same core and nothing else.
    command = ["java", "-Xshare:auto", "-cp", class_path, "org.sonoedge.core.ResizeSpeedKt"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as jvm:
        assert jvm.stdin is not None and jvm.stdout is not None
        jvm.stdout.readline()
        pillow, kotlin = [], []
        for _ in range(ROUNDS):
            start = perf_counter()
            resize(image, (224, 224))
            pillow.append(1e3 * (perf_counter() - start))
            jvm.stdin.write("\n")
            jvm.stdin.flush()
            kotlin.append(float(jvm.stdout.readline()))
        jvm.stdin.close()
    print(f"medians of {ROUNDS}: Pillow {median(pillow):.2f} ms, Kotlin {median(kotlin):.2f} ms")
    # The fastest call of each: what other work on the machine does not disturb.
    ratio = min(kotlin) / min(pillow)
    print(f"fastest: Pillow {min(pillow):.2f} ms, Kotlin {min(kotlin):.2f} ms: {ratio:.2f} times")
    if ratio > 2:
        print("error: more than twice as long as Pillow", file=sys.stderr)
    return int(ratio > 2)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1]))
