"""What a training tells its caller while it runs: events, for a progress display or a log of one's own.

A callback is a function of one event::

    def show(event):
        match event:
            case FeaturesComputed(done, total): bar.update(done / total)
            case EpochEnded(stage, epoch, epochs, figures): print(epoch, figures["val_loss"])
            case RunFinished(path, card): print(path, card.metrics["test"]["auc"])

    train("BUSI", callbacks=[show])

A Keras callback may be given, too: it takes part wherever Keras trains, that is not in a logistic regression.

A callback runs in the thread that trains; what it raises ends the training, and no half-written run is left. The
fits of a sweep and processes beside this one (``workers``) tell nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sonoedge.train.records.run_card import RunCard

Stage = Literal["head", "fine-tune", "end-to-end", "teach"]


@dataclass(frozen=True)
class FeaturesComputed:
    """So many of the images that were not in the cache have their features; there may be several such counts."""

    done: int
    total: int


@dataclass(frozen=True)
class EpochEnded:
    """An epoch of gradient training.

    Attributes:
        stage: ``head``, ``fine-tune``, ``end-to-end``, or ``teach`` (distill and slim).
        epoch: from 1 on.
        epochs: at most; early stopping may end before.
        figures: what Keras logged, such as ``loss`` and ``val_loss``.
    """

    stage: Stage
    epoch: int
    epochs: int
    figures: Mapping[str, float]


@dataclass(frozen=True)
class RunFinished:
    """The run folder is complete."""

    path: Path
    card: RunCard


Event = FeaturesComputed | EpochEnded | RunFinished
Callback = Callable[[Event], None] | Any
"""A function of an event, or a ``keras.callbacks.Callback``, which is not imported here: it takes seconds."""

_LISTENERS: ContextVar[tuple[Callback, ...]] = ContextVar("listeners", default=())


@contextmanager
def listening(callbacks: Sequence[Callback]) -> Iterator[None]:
    """Tell these callbacks, and no others, what happens within the block, in this thread."""
    token = _LISTENERS.set(tuple(callbacks))
    try:
        yield
    finally:
        _LISTENERS.reset(token)


def tell(event: Event) -> None:
    """Tell an event to the functions that listen."""
    for listener in _LISTENERS.get():
        if not _is_keras(listener):
            listener(event)


def keras_listeners() -> list[Any]:
    """The Keras callbacks among those that listen."""
    return [listener for listener in _LISTENERS.get() if _is_keras(listener)]


def _is_keras(listener: Callback) -> bool:
    return hasattr(listener, "on_epoch_end") and hasattr(listener, "set_model")
