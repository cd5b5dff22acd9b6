"""The compiler of a target, whichever it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sonoedge.export.targets import edge_tpu, vela
from sonoedge.export.targets.table import Target


def require_compiler(target: Target) -> None:
    """Fail before the long work if a compiler that pip can install is missing (`MissingExtraError`)."""
    if target.vela is not None:
        vela.require_vela()


def compiled_for(path: Path, target: Target, scratch: Path) -> dict[str, Any]:
    """What the compiler says of an int8 file, for JSON: the target's name, and ``text`` for people.

    Raises:
        ModelError: the file cannot be compiled, or not all of it runs on the target.
    """
    if target.vela is not None:
        report = vela.compile_with_vela(path, target.vela, scratch)
        text = vela.in_words(report)
    elif target.compiler:
        report = edge_tpu.compile_for_edge_tpu(path, target.compiler, scratch)
        text = edge_tpu.in_words(report)
    else:
        report, text = (
            {"compiler": None},
            "every operator is int8 and common to all the targets; nothing was compiled",
        )
    return {"name": target.name, **report, "text": text}
