"""Where things lie in the checkout, and what lies in a folder."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VECTORS = ROOT / "tests" / "vectors"
SMALL_BUNDLE = VECTORS / "bundle"
MARKER = "bundle.json"


def names_in(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def own_output(target: Path) -> Path:
    target.mkdir()
    (target / MARKER).write_text("old")
    (target / "old.txt").write_text("old")
    return target
