"""Estimated latency on boards and phones, from multiply-adds. An estimate: only the device itself measures.

Only arithmetic counts: peak = cores x clock x multiply-adds per cycle. Convolution kernels reach 25 to 60 % of this
peak. One published figure lies inside this range: MobileNet v1 (0.569 GMAC, float32) takes 75 ms on a Pi 4 with
XNNPACK (README of XNNPACK, 2020), which is 7.6 GMAC/s, 32 % of the peak of 24. Reading weights and maps of these
models from memory takes a small part of the time.
"""

from __future__ import annotations

from dataclasses import dataclass

REACHED = (0.25, 0.60)
"""Shares of the peak that convolution kernels reach: pessimistic, optimistic."""


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
            int8_macs: the part of ``macs`` with integer inputs (see `edge_runtime.backends.flatbuffer.Summary`).
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
"""A mid-range phone: only its two large cores work, with as many multiply-adds per cycle as a Cortex-A76."""
