"""Run files: what is written is read back; anything else is refused with a sentence."""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sonoedge import benchmarks
from sonoedge.benchmarks.records.runfile import parse_run, read_runs, write_run
from sonoedge.benchmarks.report.page import page
from sonoedge.benchmarks.report.report import body, csv_text, schema
from sonoedge.benchmarks.report.text import markdown, table
from sonoedge.benchmarks.retention.results import result
from sonoedge.edge_runtime.errors import DataError
from sonoedge.edge_runtime.typed_json import to_plain
from tests.helpers.measured_runs import FULL, candidate, make_run, scored_run


def test_round_trip(tmp_path: Path) -> None:
    run = scored_run()
    write_run(run, tmp_path / "run.json")
    assert read_runs(tmp_path / "run.json") == (run,)


def test_report_is_read_as_its_runs(tmp_path: Path) -> None:
    runs = (scored_run(), make_run(None, [candidate("tflite-int8")]))
    whole = body([result(run) for run in runs], None)
    (tmp_path / "report.json").write_text(json.dumps(whole, allow_nan=False))
    assert read_runs(tmp_path / "report.json") == runs


def test_published_schema_is_the_code() -> None:
    published = Path(benchmarks.__file__).with_name("report").joinpath("report.schema.json").read_text()
    assert json.loads(published) == schema(), "write it again, see benchmarks/report/report.py"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not a benchmark file"),
        ("[1, 2]", "is not a benchmark file"),
        ('{"kind": "something"}', "is not a benchmark file"),
        (
            '{"kind": "sonoedge-benchmark-run", "schema_version": 99}',
            "schema_version 99; this version reads 2. Update sonoedge.",
        ),
        ('{"kind": "sonoedge-benchmark-run", "schema_version": 2}', "lacks: bundle, "),
        ('{"kind": "sonoedge-benchmark-report", "schema_version": 2, "runs": []}', "holds no runs"),
        ("[" * 100_000, "is not a benchmark file"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DataError, match=message):
        read_runs(tmp_path / "a.json")


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such benchmark file"):
        read_runs(tmp_path / "none.json")


def test_contradictions_are_refused() -> None:
    plain = to_plain(scored_run())
    for change, message in (
        (lambda b: b["candidates"][1].update(logits=[1.0]), "1 results for 40 images"),
        (lambda b: b.update(reference="nobody"), "no candidate 'nobody'"),
        (lambda b: b["candidates"][2].update(name=FULL), "a name of its own"),
        (lambda b: b["candidates"][1]["timing"].update(round_sizes=[1]), "do not add up"),
        (lambda b: b["candidates"][1].update(threshold=1.5), "is no probability"),
        (lambda b: b["data"]["images"][0].update(label=2), "labels 0 and 1"),
        (lambda b: b.update(extra=1), r"unknown keys: extra\."),
        (
            lambda b: b["candidates"][0].update(size_byte=1),
            r"candidates\[0\] .*size_byte \(is size_bytes meant\?\)",
        ),
    ):
        broken = copy.deepcopy(plain)
        change(broken)
        with pytest.raises(DataError, match=message):
            parse_run(broken, "run")


@pytest.mark.long
@settings(max_examples=60)
@example(seed=727176)  # a reference of no size
@example(seed=1_001_078)  # heat maps compared with a model that is not there
@given(seed=st.integers(0, 2**32 - 1))
def test_damaged_files_are_an_error_or_a_run_that_can_be_reported(seed: int) -> None:
    """One value anywhere replaced by something else: `DataError`, or a report; never another exception."""
    rng = random.Random(seed)
    plain = to_plain(scored_run())
    spots = list(_spots(plain))
    holder, key = rng.choice(spots)
    holder[key] = rng.choice([None, -1, 0, 3.5, "", "x", [], {}, True, [None], float("nan"), 10**30])
    try:
        run = parse_run(plain, "run")
    except DataError:
        return
    found = [result(run)]
    json.dumps(body(found, None), allow_nan=False)
    assert page(found, None) and markdown(found, None) and table(found, None) and csv_text(found)


def _spots(node: object):  # type: ignore[no-untyped-def]
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in list(items):
        yield node, key
        yield from _spots(value)
