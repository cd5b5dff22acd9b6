"""Early stopping that outlives an interruption: a folder keeps the best epoch's weights and the history.

`keras.callbacks.BackupAndRestore` restores the last weights, the optimizer and the number of the epoch, but not the
state of `keras.callbacks.EarlyStopping`. Without that state, a resumed training keeps the best of its last epochs
only.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import keras
import numpy as np

from sonoedge.edge_runtime.files import write_bytes_atomic, write_text_atomic
from sonoedge.train.evaluation.results import History


class Stopping(keras.callbacks.EarlyStopping):
    """Stops if val_loss has not fallen for some epochs, and gives the model the weights of the best epoch.

    Attributes:
        history: what every epoch logged, epochs before an interruption included.
    """

    def __init__(self, patience: int, backup: Path | None = None) -> None:
        """Start without a history.

        Args:
            patience: epochs to wait for a lower loss.
            backup: the folder of `keras.callbacks.BackupAndRestore`, which removes it after training.
        """
        super().__init__("val_loss", mode="min", patience=patience, restore_best_weights=True)
        self.history: History = {}
        self._backup = backup

    def on_train_begin(self, logs: Any = None) -> None:
        """Go on from the state in the folder, if there is one."""
        super().on_train_begin(logs)
        self.history, self._counted = {}, 0
        if self._backup is None or not self._state.is_file():
            return
        state = json.loads(self._state.read_text(encoding="utf-8"))
        self.best, self.wait, self.best_epoch = state["best"], state["wait"], state["best_epoch"]
        self.history, self._counted = state["history"], state["counted"]
        with np.load(self._weights(self.best_epoch)) as file:
            self.best_weights = [file[f"w{i}"] for i in range(len(file.files))]

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Count an epoch once, also if it runs again because its weights had not been saved in time."""
        if epoch < self._counted:
            return
        super().on_epoch_end(epoch, logs)
        self._counted = epoch + 1
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(float(value))
        if self._backup is not None:
            self._save(epoch)

    @property
    def _state(self) -> Path:
        assert self._backup is not None
        return self._backup / "stopping.json"

    def _weights(self, epoch: int) -> Path:
        return self._state.with_name(f"best-{epoch}.npz")

    def _save(self, epoch: int) -> None:
        """Write the weights first, then the state, which names their file."""
        if self.best_epoch == epoch:
            buffer = io.BytesIO()
            np.savez(buffer, **{f"w{i}": weight for i, weight in enumerate(self.best_weights)})
            write_bytes_atomic(self._weights(epoch), buffer.getvalue())
        state = {"best": float(self.best), "wait": self.wait, "best_epoch": self.best_epoch}
        state |= {"history": self.history, "counted": self._counted}
        write_text_atomic(self._state, json.dumps(state))
        for other in self._state.parent.glob("best-*.npz"):
            if other != self._weights(self.best_epoch):
                other.unlink()


class Recorded(keras.callbacks.Callback):
    """Keeps what every epoch logged, epochs before an interruption included, and stops nothing.

    Attributes:
        history: by name of a figure, its value after every epoch.
    """

    def __init__(self, backup: Path | None = None) -> None:
        """Start without a history; ``backup``: see `Stopping`."""
        super().__init__()
        self.history: History = {}
        self._file = None if backup is None else backup / "history.json"

    def on_train_begin(self, logs: Any = None) -> None:
        """Go on from the history in the folder, if there is one."""
        if self._file is not None and self._file.is_file():
            self.history = json.loads(self._file.read_text(encoding="utf-8"))

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Add an epoch; one that runs again because its weights had not been saved in time replaces itself."""
        for name, value in (logs or {}).items():
            self.history[name] = [*self.history.get(name, [])[:epoch], float(value)]
        if self._file is not None:
            write_text_atomic(self._file, json.dumps(self.history))


class EpochOrder(keras.callbacks.Callback):
    """Tells batches which epoch begins: after an interruption that is not the first one."""

    def __init__(self, batches: Any) -> None:
        super().__init__()
        self._batches = batches

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Let the batches shuffle for the epoch (``batches.start``)."""
        self._batches.start(epoch)
