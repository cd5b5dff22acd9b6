#!/usr/bin/env bash
# A report in a real browser: phone and desktop, light and dark, on paper; accessible, nothing cut off, no network.
#   bash scripts/check_report.sh REPORT [SCREENSHOTS]      REPORT: the report folder
# Needs Node.js 20, npm and Chromium (on Debian: apt-get install nodejs npm chromium).
set -euo pipefail
report="$(realpath "$1")" shots="${2:+$(realpath -m "$2")}"
cd "$(dirname "${BASH_SOURCE[0]}")/.."
[ -f "$report/report.html" ] || { echo "error: $1 holds no report.html." >&2; exit 1; }
for tool in node npm chromium; do
  command -v "$tool" >/dev/null || {
    echo "error: $tool is needed (on Debian: apt-get install nodejs npm chromium)." >&2
    exit 1
  }
done
[ -d tests/browser/node_modules/playwright-core ] || npm ci --prefix tests/browser --silent
REPORT="$report/report.html" SHOTS="$shots" node --test tests/browser/report.test.mjs
