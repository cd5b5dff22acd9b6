"""The size of the device install: what grew is named."""

from __future__ import annotations

import pytest

from scripts.checks import device_size

SAME = dict.fromkeys(device_size.OURS | device_size.OF_LITERT, 0) | {"numpy": round(1e6 * device_size.MEGABYTES)}


def test_the_install_as_it_is() -> None:
    assert device_size.complaints(SAME) == []


def test_a_distribution_more_a_distribution_less() -> None:
    (more,) = device_size.complaints({**SAME, "jinja2": 400_000})
    assert "gained: jinja2 (0.4 MB)." in more
    (less,) = device_size.complaints({name: size for name, size in SAME.items() if name != "tqdm"})
    assert "lacks tqdm" in less


def test_megabytes_more() -> None:
    (grown,) = device_size.complaints({**SAME, "sonoedge": 600_000})
    assert f"has {device_size.MEGABYTES + 0.6:.1f} MB" in grown and "numpy" in grown


@pytest.mark.long
def test_bytecode_and_pip_do_not_count() -> None:
    found = device_size.installed()
    assert "pip" not in found and found["numpy"] > 10_000_000
