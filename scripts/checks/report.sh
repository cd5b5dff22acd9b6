#!/usr/bin/env bash
# A report in a real browser: phone and desktop, light and dark, on paper; accessible, nothing cut off, no network.
#   bash scripts/checks/report.sh [REPORT [SCREENSHOTS]]
# REPORT: a report folder; without one the report of the tests, which holds everything a report can hold.
# Needs Node.js 20, npm and Chromium (on Debian: apt-get install nodejs npm chromium). VENV as in setup.sh.
set -euo pipefail
report="${1:+$(realpath "$1")}" shots="${2:+$(realpath -m "$2")}"
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
for tool in node npm chromium; do
  command -v "$tool" >/dev/null || {
    echo "error: $tool is needed (on Debian: apt-get install nodejs npm chromium)." >&2
    exit 1
  }
done
if [ -z "$report" ]; then
  report="$(mktemp -d)"
  trap 'rm -rf "$report"' EXIT
  PYTHONPATH=. "${VENV:-.venv}/bin/python" - > "$report/report.html" <<'PYTHON'
from tests.benchmarks.report.test_page import full_run

from sonoedge.benchmarks.report.page import page
from sonoedge.benchmarks.retention.results import result

print(page([result(full_run())], None))
PYTHON
fi
[ -f "$report/report.html" ] || { echo "error: $1 holds no report.html." >&2; exit 1; }
[ -d tests/browser/node_modules/playwright-core ] || npm ci --prefix tests/browser --silent
REPORT="$report/report.html" SHOTS="$shots" node --test tests/browser/report.test.mjs
