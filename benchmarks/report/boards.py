"""Estimated latency on boards and phones, from multiply-adds. An estimate: only the device itself measures.

Roofline of arithmetic: peak = cores x clock x multiply-adds per cycle, of which convolution kernels reach a quarter
to a little more than a half. One published point lies inside: MobileNet v1 (0.569 GMAC, float32) takes 75 ms on a
Pi 4 with XNNPACK (its README, 2020) = 7.6 GMAC/s, 32 % of 24. Weights and maps of these models stream from memory
in a small part of that time.
"""

from __future__ import annotations

from dataclasses import dataclass

REACHED = (0.25, 0.60)
"""Share of the peak that convolution kernels reach: pessimistic, optimistic."""


@dataclass(frozen=True)
class Board:
    """A board and its peak in multiply-adds per cycle and core (128-bit vectors)."""

    name: str
    cores: int
    clock_hz: float
    float_macs: float
    int8_macs: float

    def latency_ms(self, macs: float, int8_macs: float) -> tuple[float, float]:
        """(optimistic, pessimistic) milliseconds of one inference on all cores.

        Args:
            macs: multiply-adds.
            int8_macs: those of them that are of integers (see `edge_runtime.backends.flatbuffer.Summary`).
        """
        cycles = (macs - int8_macs) / self.float_macs + int8_macs / self.int8_macs
        peak_ms = 1e3 * cycles / (self.cores * self.clock_hz)
        return peak_ms / REACHED[1], peak_ms / REACHED[0]


BOARDS = (
    # Cortex-A72: one 4-wide FMA a cycle; int8 by widening multiplies, 8 a cycle, no dot product.
    Board("Raspberry Pi 4", cores=4, clock_hz=1.5e9, float_macs=4, int8_macs=8),
    # Cortex-A76: two 4-wide FMAs, or two SDOT of 16, a cycle.
    Board("Raspberry Pi 5", cores=4, clock_hz=2.4e9, float_macs=8, int8_macs=32),
)
PHONE = Board("phone with two Cortex-A78", cores=2, clock_hz=2.2e9, float_macs=8, int8_macs=32)
"""A phone of the middle class: its two large cores work, with the pipes of a Cortex-A76."""
