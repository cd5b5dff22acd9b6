"""``sonoedge completion``: what bash offers after a Tab, and what the other shells are told."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from sonoedge.edge_runtime.cli import COMMANDS
from sonoedge.train.commands.completion import FILES, FOLDERS, SHELLS, whole_parser
from tests.helpers.commands import Sono

ASK = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}
_shtab_sonoedge 2>/dev/null
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture
def offered(sonoedge: Sono, tmp_path: Path):  # type: ignore[no-untyped-def]
    """What bash offers for the last of the words, in a folder with two files and a sub-folder."""
    script = tmp_path / "script.bash"
    script.write_text(sonoedge("completion", "bash").out)
    folder = tmp_path / "folder"
    (folder / "images").mkdir(parents=True)
    for name in ("image.png", "other.txt"):
        (folder / name).write_bytes(b"")

    def ask(*words: str) -> set[str]:
        command = ["bash", "--norc", "-c", ASK, "bash", script, "sonoedge", *words]
        found = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
        assert found.stderr == ""
        return set(found.stdout.split())

    return ask


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_bash_completes(offered) -> None:  # type: ignore[no-untyped-def]
    assert offered("") == set(COMMANDS)
    assert offered("bench") == {"benchmark", "benchmark-explain"}
    assert offered("predict", "--bu") == {"--bundle"}
    assert offered("predict", "--bundle", "") == {"images"}
    assert offered("predict", "--json", "im") == {"image.png", "images"}
    assert offered("verify", "") == {"images"}
    assert offered("train", "--protocol", "") == {"default", "paper", "end-to-end"}
    assert offered("train", "--weights", "im") == {"imagenet", "images"}
    assert offered("benchmark", "--mode", "") == {"rapid", "quick", "normal", "none"}
    assert offered("completion", "") == set(SHELLS)
    assert offered("train", "--cac") == set()  # an old spelling


@pytest.mark.parametrize("shell", SHELLS)
def test_every_shell_is_told_every_command(shell: str, sonoedge: Sono) -> None:
    found = sonoedge("completion", shell)
    assert (found.code, found.err) == (0, "")
    assert all(name in found.out for name in COMMANDS)
    assert "--feature-cache" in found.out


def test_paths_have_placeholders_that_completion_knows() -> None:
    (commands,) = (action for action in whole_parser()._actions if action.choices)
    assert isinstance(commands.choices, dict)
    unknown = {
        (name, action.dest, action.metavar)
        for name, parser in commands.choices.items()
        for action in parser._actions
        if action.type is Path and action.help != "==SUPPRESS=="
        and not (FILES | FOLDERS) & set(str(action.metavar).split("|"))
    }  # fmt: skip
    assert unknown == set()


def test_without_shtab_it_says_what_to_install(sonoedge: Sono, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "shtab", None)
    found = sonoedge("completion", "bash")
    assert (found.code, found.out) == (7, "")
    assert 'shtab is not installed. Install it with: pip install ".[train]"' in found.err
