#!/usr/bin/env bash
# Style, types, import contracts, and the documents against the code and the measured figures.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
"$bin/ruff" check .
"$bin/ruff" format --check .
"$bin/mypy"
"$bin/lint-imports" --no-cache
"$bin/python" scripts/result_tables.py --check
"$bin/python" scripts/checks/readme.py
