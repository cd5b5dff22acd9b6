"""One version everywhere, and an sdist whose bytes depend on its content only."""

from __future__ import annotations

import io
import json
import re
import tarfile
from pathlib import Path

import pytest
import yaml

from scripts.release.normal import packed
from scripts.release.sbom import sbom
from scripts.results.documents import guides
from sonoedge.edge_runtime import __version__
from tests.helpers.places import ROOT


def test_one_version_everywhere() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert 'dynamic = ["version"]' in text and 'version = { attr = "sonoedge.edge_runtime.__version__" }' in text
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))["version"] == __version__
    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    for name in ("android_demo/app/build.gradle.kts", "android_demo/check"):
        found = re.findall(r"version-?[nN]ame[ =]+\"?([\d.]+)", (ROOT / name).read_text(encoding="utf-8"))
        assert found == [__version__], name
    for path in guides(ROOT):
        wheels = re.findall(r"sonoedge-([\d.]+)-py3", (ROOT / path).read_text(encoding="utf-8"))
        assert set(wheels) <= {__version__}, path


def archive(path: Path, names: list[str], *, seconds: int, mode: int, owner: str) -> Path:
    with tarfile.open(path, "w:gz") as file:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size, member.mtime, member.mode, member.uname = len(name), seconds, mode, owner
            file.addfile(member, io.BytesIO(name.encode()))
    return path


def test_an_sdist_is_packed_to_the_same_bytes(tmp_path: Path) -> None:
    one = archive(tmp_path / "a.tar.gz", ["p/a", "p/b"], seconds=1, mode=0o600, owner="me")
    two = archive(tmp_path / "b.tar.gz", ["p/b", "p/a"], seconds=2, mode=0o664, owner="you")
    assert packed(one, 7) == packed(two, 7)
    assert packed(one, 7) != packed(one, 8)
    other = archive(tmp_path / "c.tar.gz", ["p/a", "p/c"], seconds=1, mode=0o600, owner="me")
    assert packed(one, 7) != packed(other, 7)


def test_a_link_in_an_sdist_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as file:
        member = tarfile.TarInfo("p/link")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        file.addfile(member)
    with pytest.raises(SystemExit, match="p/link"):
        packed(tmp_path / "a.tar.gz", 0)


def test_the_sbom_names_files_and_packages(tmp_path: Path) -> None:
    (tmp_path / "sonoedge-1-py3-none-any.whl").write_bytes(b"wheel")
    found = sbom(tmp_path, "# a comment\nnumpy==2.0\nJinja2==3.1\n")
    assert found == sbom(tmp_path, "numpy==2.0\nJinja2==3.1\n")
    assert [item["purl"] for item in found["components"]] == ["pkg:pypi/numpy@2.0", "pkg:pypi/jinja2@3.1"]
    assert found["metadata"]["component"]["components"][0]["hashes"][0]["alg"] == "SHA-256"
    (tmp_path / "sonoedge-1-py3-none-any.whl").write_bytes(b"another")
    assert sbom(tmp_path, "numpy==2.0\n")["serialNumber"] != found["serialNumber"]
    assert json.dumps(found)
