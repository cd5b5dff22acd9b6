"""Commands called in this process, and what they answered."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sonoedge.edge_runtime import cli
from tests.helpers.models import RUN_BACKBONES, SIZE


@dataclass(frozen=True)
class Result:
    """What a command answered."""

    code: int
    out: str
    err: str


def call(*arguments: object) -> int:
    """``sonoedge ARGUMENTS`` in this process, which keeps its own SIGTERM handler."""
    handler = signal.getsignal(signal.SIGTERM)
    try:
        return cli.main([str(argument) for argument in arguments])
    finally:
        signal.signal(signal.SIGTERM, handler)


def train_arguments(phantoms: Path, weights_dir: Path) -> list[object]:
    """How `tiny_run` is trained."""
    return [
        "--data", phantoms, "--weights", weights_dir, "--backbones", ",".join(RUN_BACKBONES), "--quiet",
        "--input-size", SIZE, "--units", 16, "--protocol", "paper",
    ]  # fmt: skip


Sono = Callable[..., Result]
