"""All faults that `planted_faults.py` plants: one or more behind each safety promise."""

from __future__ import annotations

from scripts.faults import answers, bundle, station, workstation

FAULTS = (*bundle.FAULTS, *answers.FAULTS, *station.FAULTS, *workstation.FAULTS)
