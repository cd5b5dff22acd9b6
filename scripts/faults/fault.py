"""One planted fault."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """One replacement of text, and tests; with the fault at least one of them must fail.

    Attributes:
        promise: of the code, in words; the fault breaks it.
        path: file in the checkout.
        old: text that occurs exactly once in the file.
        new: text that replaces it.
        tests: names as pytest takes them; they pass without the fault.
        heavy: whether the tests need TensorFlow.
    """

    promise: str
    path: str
    old: str
    new: str
    tests: tuple[str, ...]
    heavy: bool = False
