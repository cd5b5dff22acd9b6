"""The finished steps of a measurement, kept so that an interrupted one goes on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sonoedge.edge_runtime.files import write_text_atomic


class Journal:
    """The finished steps of a run, in a file, so that an interrupted run goes on.

    Steps that were stored with another ``fingerprint`` are dropped.
    """

    def __init__(self, path: Path, fingerprint: str) -> None:
        self.path, self._fingerprint = path, fingerprint
        self._steps: dict[str, Any] = {}
        try:
            body = json.loads(path.read_text(encoding="utf-8"))
            if body["fingerprint"] == fingerprint:
                self._steps = dict(body["steps"])
        except (OSError, ValueError, KeyError, TypeError):
            pass
        self.resumed = len(self._steps)

    def get(self, name: str) -> Any:
        """The stored result of a step; None if there is none."""
        return self._steps.get(name)

    def step(self, name: str, work: Callable[[], Any]) -> Any:
        """The stored result of a step; if there is none, do ``work`` and store its result."""
        if name not in self._steps:
            self._steps[name] = work()
            body = {"fingerprint": self._fingerprint, "steps": self._steps}
            write_text_atomic(self.path, json.dumps(body))
        return self._steps[name]

    def remove(self) -> None:
        """Delete the file: the run is complete."""
        self.path.unlink(missing_ok=True)
