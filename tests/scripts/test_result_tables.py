"""Figures in the documents: written from JSON, compared with it, and never typed into README or a guide."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from scripts import result_tables
from scripts.results.documents import RESULTS, guides, pages, problems, write
from scripts.results.figures import FIGURES
from scripts.results.tables import TABLES
from scripts.results.typed import typed_figures
from tests.helpers.places import ROOT

README = """# Results

<!-- table front -->
<!-- end -->

It changed <!-- figure changed_out_of_fold --><!-- end -->.
"""


def edit(root: Path, name: str, **values: Any) -> None:
    path = root / RESULTS / name
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A checkout with figures that no measurement changes: a README shows them, a guide has none."""
    shutil.copytree(ROOT / RESULTS, tmp_path / RESULTS, ignore=shutil.ignore_patterns("*.md"))
    rows = json.loads((ROOT / RESULTS / "benchmark.json").read_text())["rows"]
    changed = [row | {"changed": 13 if row["kind"] == "peer" else 0} for row in rows]
    edit(
        tmp_path, "benchmark.json", commands=["sonoedge export --format all --out bundle"], date="2026-01-02",
        machine={"processor": "CPU X", "cores": 2, "threads": 2}, data={"images": 94}, rows=changed,
    )  # fmt: skip
    edit(tmp_path, "decisions.json", pooled={"tflite-int8": {"events": 2, "images": 628}})
    (tmp_path / "README.md").write_text(README)
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "README.md").write_text("# train\n\nAt least 90 % are int8.\n")
    assert write(tmp_path) == ["README.md"]
    assert problems(tmp_path) == []
    return tmp_path


def change(path: Path, before: str, after: str) -> None:
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after, 1))


def test_the_documents_of_this_repository() -> None:
    assert problems(ROOT) == []


def test_the_command(root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    change(root / "README.md", "13 of 94", "3 of 94")
    monkeypatch.setattr(result_tables, "ROOT", root)
    monkeypatch.setattr("sys.argv", ["result_tables.py", "--check"])
    assert result_tables.main() == 1
    assert capsys.readouterr().out.startswith("README.md: figures differ from docs/results.")
    monkeypatch.setattr("sys.argv", ["result_tables.py"])
    assert result_tables.main() == 0
    monkeypatch.setattr("sys.argv", ["result_tables.py", "--check"])
    assert result_tables.main() == 0
    assert capsys.readouterr().out == "wrote README.md\n"


def test_every_table_and_figure_is_used() -> None:
    text = "".join((ROOT / path).read_text(encoding="utf-8") for path in (*guides(ROOT), *pages(ROOT)))
    assert [name for name in TABLES if f"<!-- table {name} -->" not in text] == []
    assert [name for name in FIGURES if f"<!-- figure {name} -->" not in text] == []


def test_a_caption_says_how_the_table_was_made(root: Path) -> None:
    text = (root / "README.md").read_text()
    body = json.loads((root / RESULTS / "benchmark.json").read_text())
    for fact in (*body["commands"], body["date"], body["machine"]["processor"], "2 threads", body["weights"]):
        assert fact in text.replace("\n", " ")
    assert "[benchmark.json](docs/results/benchmark.json)" in text
    assert max(map(len, text.splitlines())) <= 120


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("13 of 94", "3 of 94"),
        ("2 of 628", "0 of 628"),
        ("--format all", "--format onnx"),
        ("2026-01-02", "2026-01-03"),
    ],
)
def test_a_figure_or_caption_that_somebody_changed(root: Path, before: str, after: str) -> None:
    change(root / "README.md", before, after)
    assert problems(root) == ["README.md: figures differ from docs/results. Run: python scripts/result_tables.py"]


def test_a_json_that_was_made_with_another_option(root: Path) -> None:
    edit(root, "benchmark.json", commands=["sonoedge export --format all --max-images 10 --out bundle"])
    assert len(problems(root)) == 1
    assert write(root) == ["README.md"]
    assert "--max-images 10" in (root / "README.md").read_text().replace("\n", " ")


def test_a_json_that_does_not_say_how_it_was_made(root: Path) -> None:
    path = root / RESULTS / "benchmark.json"
    body = json.loads(path.read_text())
    del body["commands"], body["weights"]
    path.write_text(json.dumps(body))
    with pytest.raises(
        SystemExit, match=r"docs/results/benchmark.json does not say how it was made: commands, weights"
    ):
        problems(root)


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ("<!-- table front -->\n", "README.md: a table or figure lacks its <!-- end -->"),
        ("<!-- table front -->\n<!-- table gate -->\n<!-- end -->\n", "lacks its <!-- end -->"),
        ("<!-- table nothing -->\n<!-- end -->\n", "README.md: no such figure: nothing. Known: front, "),
    ],
)
def test_a_block_that_is_none(root: Path, block: str, message: str) -> None:
    (root / "README.md").write_text(block)
    with pytest.raises(SystemExit, match=message):
        problems(root)


@pytest.mark.parametrize(
    "figure",
    [
        "AUC 0.908 [0.877, 0.937]", "-0.012 [-0.025, -0.002]", "0 of 94", "12.3 ms", "57 ms a frame", "16–38 ms",
        "4.7 times as fast", "p50 57", "p90: 66.6", "38.4 MB", "146 MB", "2.3 GB", "125–323 MiB", "AUC of 0.97",
        "a median cosine of 0.94", "| 0.9998 |", "47 % of the images", "33.8 %", "took 1.4 s", "1.86x faster",
        "49.8 frames a second",
    ],
)  # fmt: skip
def test_a_typed_figure_in_a_guide(root: Path, figure: str) -> None:
    change(root / "train" / "README.md", "At least", f"It was {figure}. At least")
    found = problems(root)
    assert found and all(line.startswith("train/README.md:3: typed figure ") for line in found)
    (root / "train" / "README.md").rename(root / RESULTS / "page.md")
    assert problems(root) == [], "a results page may have figures without JSON"


@pytest.mark.parametrize(
    "definition",
    [
        "at least 90 %", "95 % intervals", "99 % of the accuracy", "99.9 % of the values", "more than 1 %",
        "`--sensitivity 0.95`", "at least 3 times as fast", "at least 0.98", "6 GB of disk", "32 MiB",
        "at most 700", "4 KB", "20 s", "224 pixels", "2026-11-30", "version 2.16.1", "5 of the steps",
    ],
)  # fmt: skip
def test_what_is_chosen_is_no_measured_figure(definition: str) -> None:
    assert list(typed_figures(f"It is {definition}.")) == []
