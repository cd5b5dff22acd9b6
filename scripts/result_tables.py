"""Write measured figures into the documents, from the JSON in docs/results.

    python scripts/result_tables.py            # writes tables and figures
    python scripts/result_tables.py --check    # exit code 1 if a document differs, or has a typed figure

A table stands between ``<!-- table NAME -->`` and ``<!-- end -->``; its last lines say how it was made. A figure in
a sentence stands between ``<!-- figure NAME -->`` and ``<!-- end -->``. Nobody types either.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from scripts.results.documents import problems, write

ROOT = Path(__file__).resolve().parents[1]


def main() -> int:
    """Write the figures, or print what is wrong; exit code 1 if a check finds something."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--check", action="store_true", help="change nothing")
    if not parser.parse_args().check:
        for name in write(ROOT):
            print(f"wrote {name}")
        return 0
    found = problems(ROOT)
    print("\n".join(found), end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
