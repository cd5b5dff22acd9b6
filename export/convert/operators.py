"""The operators of a backbone."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Operator:
    """One operator of a float backbone, in execution order.

    Attributes:
        name: path in the graph.
        operation: type, in the runtime's spelling.
        branches: the branch outputs that depend on it.
        inputs: names of the operators whose results it reads.
        macs: multiply-adds of one image.
    """

    name: str
    operation: str
    branches: frozenset[str]
    inputs: tuple[str, ...] = ()
    macs: int = 0
