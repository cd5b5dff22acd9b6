"""One planted fault."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """One replacement of text, and the tests of which at least one must then fail.

    Attributes:
        promise: what the code promises, and the fault breaks.
        path: file in the checkout.
        old, new: ``old`` occurs exactly once there.
        tests: names as pytest takes them; they pass without the fault.
        heavy: they need TensorFlow.
    """

    promise: str
    path: str
    old: str
    new: str
    tests: tuple[str, ...]
    heavy: bool = False
