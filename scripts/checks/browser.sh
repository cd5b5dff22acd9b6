#!/usr/bin/env bash
# The page in a real browser: server mode, camera, offline mode with the station killed, against one bundle.
#   bash scripts/checks/browser.sh BUNDLE IMAGES [SCREENSHOTS]
# Needs Node.js 20, npm and Chromium (on Debian: apt-get install nodejs npm chromium). VENV as in setup.sh.
set -euo pipefail
bundle="$(realpath "$1")" images="$(realpath "$2")"
shots="${3:+$(realpath -m "$3")}"
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
export VENV="${VENV:-.venv}"
for tool in node npm chromium; do
  command -v "$tool" >/dev/null || {
    echo "error: $tool is needed (on Debian: apt-get install nodejs npm chromium)." >&2
    exit 1
  }
done
[ -f edge_runtime/serve/vendor/index.js ] && [ -d tests/browser/node_modules/playwright-core ] || bash scripts/fetch_litert_js.sh
BUNDLE="$bundle" IMAGES="$images" SHOTS="$shots" PYTHON="$VENV/bin/python" node --test --test-concurrency=1 tests/browser/
