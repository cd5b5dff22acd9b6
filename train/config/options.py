"""What values the options of ``train`` take, whoever gives them: a shell, Python or YAML."""

from __future__ import annotations

from collections.abc import Callable
from os import PathLike, fspath
from typing import Any, get_args

from sonoedge.train.records.settings import Maps, Pooling, Preprocessing, Protocol

SEED_RANGE = (0, 2**31 - 1)
PIXEL_RANGE = (32, 4096)
WORKER_RANGE = (1, 256)


class Unfit(Exception):
    """A value that an option does not take; the message goes on after the option's name."""


def _text(value: Any) -> str:
    if not isinstance(value, str | PathLike):
        raise Unfit(f"must be text. Received: {value!r}.")
    return str(fspath(value))


def _places(value: Any) -> str | tuple[str, ...]:
    places = tuple(_text(part) for part in (value if isinstance(value, list | tuple) else [value]))
    if not places:
        raise Unfit("must name at least one folder.")
    return places if len(places) > 1 else places[0]


def _names(value: Any) -> tuple[str, ...]:
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list | tuple) or not all(isinstance(part, str) for part in parts):
        raise Unfit(f"must be names, as a list or separated by commas. Received: {value!r}.")
    return tuple(part.strip() for part in parts)


def _joined(value: Any) -> str:
    return ",".join(_names(value))


def _widths(value: Any) -> tuple[int, ...]:
    parts = value if isinstance(value, list | tuple) else [value]
    try:
        if isinstance(value, str):
            parts = [int(part) for part in value.split(",") if part.strip()]
    except ValueError:
        parts = [None]
    if not all(isinstance(part, int) and not isinstance(part, bool) for part in parts):
        raise Unfit(f"takes whole numbers separated by commas. Received: {value!r}.")
    if any(part < 1 for part in parts):
        raise Unfit(f"takes positive numbers. Received: {value!r}.")
    return tuple(parts)


def _yes_or_no(value: Any) -> bool:
    if not isinstance(value, bool):
        raise Unfit(f"must be true or false. Received: {value!r}.")
    return value


def _whole(low: int, high: int) -> Callable[[Any], int]:
    def check(value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise Unfit(f"must be a whole number. Received: {value!r}.")
        if not low <= value <= high:
            raise Unfit(f"must be from {low} to {high}. Received: {value}.")
        return value

    return check


def _number(low: float, high: float) -> Callable[[Any], float]:
    def check(value: Any) -> float:
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise Unfit(f"must be a number. Received: {value!r}.")
        if not low <= value <= high:
            raise Unfit(f"must be from {low} to {high}. Received: {value}.")
        return float(value)

    return check


def _one_of(words: tuple[str, ...]) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if value not in words:
            raise Unfit(f"must be one of {', '.join(words)}. Received: {value!r}.")
        return str(value)

    return check


RECIPES: dict[str, dict[str, Any]] = {
    "fused": {},
    "compact": {
        "protocol": "end-to-end", "backbones": "mobilenet", "maps": "lesion", "input_size": 192, "units": (64,),
        "dropout": 0.2, "learning_rate": 1e-4,
    },
}  # fmt: skip
"""Named sets of options; an option that is given wins over its recipe."""

OPTIONS: dict[str, Callable[[Any], Any]] = {
    "data": _places,
    "classes": _names,
    "split": _text,
    "groups": _text,
    "skip_unreadable": _yes_or_no,
    "backbones": _joined,
    "weights": _text,
    "preprocessing": _one_of(get_args(Preprocessing)),
    "maps": _one_of(get_args(Maps)),
    "pooling": _one_of(get_args(Pooling)),
    "units": _widths,
    "dropout": _number(0.0, 0.99),
    "input_size": _whole(*PIXEL_RANGE),
    "recipe": _one_of(tuple(RECIPES)),
    "protocol": _one_of(get_args(Protocol)),
    "seed": _whole(*SEED_RANGE),
    "sweep": _text,
    "augment": _whole(0, 100),
    "epochs": _whole(1, 10_000),
    "batch_size": _whole(1, 4096),
    "learning_rate": _number(1e-9, 1.0),
    "fine_tune": _text,
    "fine_tune_epochs": _whole(1, 10_000),
    "fine_tune_rate": _number(1e-9, 1.0),
    "average_weights": _yes_or_no,
    "weight_decay": _number(0.0, 1.0),
    "warm_up": _number(0.0, 0.5),
    "label_smoothing": _number(0.0, 0.5),
    "lesion_weight": _number(0.0, 100.0),
    "augment_policy": _text,
    "mixed_precision": _yes_or_no,
    "data_parallel": _yes_or_no,
    "out": _text,
    "overwrite": _yes_or_no,
    "cache": _text,
    "workers": _whole(*WORKER_RANGE),
    "log": _names,
}
"""What each option takes: a function that gives the value as `TrainSettings` has it."""
