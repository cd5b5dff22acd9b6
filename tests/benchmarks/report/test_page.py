"""report.html: whole, safe, without a network, readable without scripts."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from jinja2 import UndefinedError

from sonoedge.benchmarks.records.runfile import Picture, Run, Timing
from sonoedge.benchmarks.report.html import panel
from sonoedge.benchmarks.report.page import page
from sonoedge.benchmarks.report.svg import Scale, linear_ticks, place_labels
from sonoedge.benchmarks.retention.regression import Limits, compare_reports
from sonoedge.benchmarks.retention.results import borrow_scores, pick, result
from sonoedge.edge_runtime.words import INTENDED_USE
from tests.helpers.measured_runs import FULL, candidate, make_run, scored_run

ATTACK = """"><script>alert(1)</script> & '{{ 7 * 7 }}' {% endif %} {# no #}"""
_VOID = {"meta", "img", "br", "rect", "line", "path", "circle"}


class Reader(HTMLParser):
    """Checks nesting; keeps tags with attributes, and the text outside scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & set(self.open):
            self.words.append(data)


def full_run() -> Run:
    """Everything a run can hold."""
    run = scored_run()
    sweep = (Timing(1, (20.0, 21.0), (2,)),)
    entry = {
        "candidate": "w8a8", "verdict": "FAIL", "images": 40, "flipped": 2,
        "accuracy_difference": [-0.02, -0.05, 0.01], "p50_ms": 9.0, "budget": {"max_drop": 0.01, "max_flips": 0.01},
    }  # fmt: skip
    pixel = "data:image/jpeg;base64,AAAA"
    agreement = (None, *[0.9] * 39)
    bare = candidate("same, bare", "bare", of="same", note="on its own")
    peer = candidate("a peer", "peer", logits=run.candidates[0].logits, note="another quantizer")
    return replace(
        run,
        candidates=(
            *[replace(c, thread_sweep=sweep, heatmap_cosine=agreement) for c in run.candidates[:3]],
            run.candidates[3], bare, peer,
        ),
        gallery=(Picture("truth: benign", pixel, {"same": pixel}, {"same": 0.2}),),
        ladders={"same": [entry, {"candidate": "odd"}], "noisy": "nothing"},
        heatmap_reference="same",
        invalid="the processor was held back during the run: throttled",
        provenance={"calibration": {"images": 8, "warnings": ["few"]}, "training": None},
    )  # fmt: skip


def test_whole_and_without_a_network() -> None:
    text = page([result(full_run())], None)
    read = Reader(text)
    assert len(text) < 3_000_000
    assert INTENDED_USE in "".join(read.words)
    for _, attributes in read.tags:
        for name in ("src", "href", "action", "data"):
            value = attributes.get(name) or "#"
            assert value.startswith(("#", "data:image/jpeg;base64,")), value
    assert not re.search(r"https?://|@import|url\(|fetch\(|XMLHttpRequest", text)
    assert "default-src 'none'" in text


def test_everything_is_described() -> None:
    read = Reader(page([result(full_run())], None))
    drawings = [attributes for tag, attributes in read.tags if tag == "svg" and "aria-hidden" not in attributes]
    assert len(drawings) == 7
    for attributes in drawings:
        assert attributes["role"] == "img" and len(attributes["aria-label"] or "") > 20
    assert all(attributes["alt"] for tag, attributes in read.tags if tag == "img")
    assert all(attributes.get("aria-label") for tag, attributes in read.tags if attributes.get("class") == "scroll")
    anchors = {attributes["id"] for _, attributes in read.tags if "id" in attributes}
    links = {(attributes["href"] or "")[1:] for tag, attributes in read.tags if tag == "a"}
    assert links and links <= anchors
    words = "".join(read.words)
    for expected in (
        "These timings do not count",
        "Guard's candidates of same",
        "few",
        "What you would pick instead",
    ):
        assert expected in words


def test_names_from_files_stay_text() -> None:
    attack = ATTACK
    pixel = 'data:image/jpeg;base64,"onload="alert(1)'
    picture = Picture(attack, "javascript:alert(1)", {attack: "data:text/html,x", f"ok {attack}": pixel}, {})
    run = full_run()
    (entry, _) = run.ladders["same"]
    named = {c.name: f"{c.name} {attack}" for c in run.candidates}
    assert run.data is not None and run.reference is not None
    run = replace(
        run,
        bundle=attack,
        gallery=(picture,),
        provenance={attack: attack},
        invalid=attack,
        data=replace(run.data, name=attack, note=attack, labels=(attack, f"not {attack}")),
        machine=replace(run.machine, processor=attack),
        reference=named[run.reference],
        heatmap_reference=named["same"],
        ladders={attack: [{**entry, "candidate": attack, "verdict": attack}]},
        candidates=tuple(
            replace(c, name=named[c.name], of=named.get(c.of or ""), note=attack, executed={"interpreter": attack})
            for c in run.candidates
        ),
    )
    text = page([result(run), result(replace(run, bundle_digest="c" * 16, invalid=None))], None)
    read = Reader(text)
    assert sum(tag == "script" for tag, _ in read.tags) == 1
    assert [attributes["src"] for tag, attributes in read.tags if tag == "img"] == [pixel] * 2
    assert {name for _, attributes in read.tags for name in attributes if name.startswith("on")} == set()
    words = "".join(read.words)
    assert "<b>no & such kernel</b>" in words
    # Braces are no template either.
    assert words.count(attack) > 100 and "49" not in words.split()
    described = [value for _, attributes in read.tags for value in attributes.values() if value and attack in value]
    assert len(described) > 50


def test_a_name_that_a_template_does_not_know_is_an_error() -> None:
    with pytest.raises(UndefinedError, match="'columns' was not provided"):
        panel("run", "overview", ["same"])


@pytest.mark.parametrize("count", [1, 2, 3])
def test_runs_of_several_machines(count: int) -> None:
    device = make_run(None, [candidate("same")], bundle_digest="c" * 16)
    text = page([result(run) for run in (scored_run(), device, device)[:count]], None)
    words = "".join(Reader(text).words)
    assert ("Overview" in words) == (count > 1)
    assert ("2 different bundles" in words) == (count > 1)


def test_a_device_borrows_the_accuracy_of_its_bundle() -> None:
    scored, device = scored_run(), make_run(None, [candidate("same"), candidate("noisy"), candidate("unknown")])
    borrowed = borrow_scores(result(device), [result(device), result(scored)])
    assert borrowed is not None
    rows, donor = borrowed
    assert [row.name for row in rows] == ["same", "noisy"] and donor.run is scored
    assert rows[0].scores == result(scored).row("same").scores and any(row.front for row in rows)
    assert "Accuracy was measured elsewhere: set: 40 test images." in page([result(device), result(scored)], None)
    other = replace(device, bundle_digest="c" * 16)
    assert borrow_scores(result(other), [result(scored)]) is None
    assert borrow_scores(result(scored), [result(scored)]) is None
    # None of the files that the device timed was scored.
    stranger = replace(device, candidates=(candidate("unknown"),))
    assert borrow_scores(result(stranger), [result(scored)]) is None
    assert "Trade-off" not in page([result(stranger)], None)


def test_baseline_banner() -> None:
    run = scored_run()
    slow = replace(run, candidates=tuple(
        replace(c, timing=Timing(2, (30.0,) * 40, (20, 20))) if c.name == "same" else c for c in run.candidates
    ))  # fmt: skip
    same = compare_reports([result(run)], [result(run)], Limits())
    worse = compare_reports([result(run)], [result(slow)], Limits())
    assert "No regression in" in page([result(run)], same)
    assert "Worse than the baseline:</b><ul><li>same: p50 ms 10.2 -&gt; 30" in page([result(slow)], worse)


def test_one_class_perfect_scores_and_no_timing() -> None:
    for y, logits in (([0, 0, 0], [1.0, -1, 2]), ([1, 1], [1.0, 1.0]), ([0, 1], [-50.0, 50.0])):
        run = make_run(y, [candidate(FULL, "full", logits=logits, timing=None), candidate("x", logits=logits)])
        assert Reader(page([result(run)], None)).tags


def test_the_pick_keeps_decisions_not_only_accuracy() -> None:
    y = [0, 1] * 10
    right = np.array([-1.0, 1.0] * 10)
    full, swapped = right.copy(), right.copy()
    full[0] *= -1  # wrong in one place
    swapped[2] *= -1  # equally often, in another
    fast = Timing(2, (1.0,) * 40, (20, 20))
    files = [candidate(FULL, "full", logits=full), candidate("swapped", logits=swapped, timing=fast)]
    sentence = pick(result(make_run(y, files)))
    assert sentence is not None and sentence.startswith("On these images, no file keeps 99 %")
    sentence = pick(result(make_run(y, [*files, candidate("same", logits=full)])))
    assert sentence is not None and "is same: 10.2 ms" in sentence


def test_scales_and_ticks() -> None:
    assert linear_ticks(0.0, 1.0) == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert linear_ticks(5.0, 5.0) == [5.0]
    log = Scale(1.3, 290.0, 0, 100, log=True)
    assert log(1.3) == 0 and log(290.0) == 100 and log(1000.0) == 100
    assert all(1.3 <= tick <= 290 for tick in log.ticks()) and len(log.ticks()) >= 3
    assert len(Scale(230.0, 300.0, 0, 100, log=True).ticks()) >= 1


def test_labels_do_not_cover_each_other() -> None:
    points = [(100.0 + i, 100.0) for i in range(8)]
    places = place_labels(points, [60.0] * 8, (0, 0, 400, 300))
    for i, (x, y) in enumerate(places):
        assert 0 <= x <= 340 and 0 <= y <= 300
        assert all(abs(x - a) >= 60 or abs(y - b) >= 12 for a, b in places[:i])
