#!/usr/bin/env bash
# Build the site as strictly as MkDocs can, follow every link of it, and look at it in Chromium.
#   bash scripts/checks/site.sh [SITE] [SCREENSHOTS]        (default SITE: build/site)
# VENV as in setup.sh. Without Node.js and Chromium the look is left out, with a note.
set -euo pipefail
site="$(realpath -m "${1:-build/site}")" shots="${2:+$(realpath -m "$2")}"
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
bin="${VENV:-.venv}/bin"
"$bin/python" -c "import material, mkdocstrings_handlers.python" 2>/dev/null ||
  "$bin/python" -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[docs]'
"$bin/python" scripts/website/drawings.py --check
NO_MKDOCS_2_WARNING=1 "$bin/python" -m mkdocs build --quiet --strict --site-dir "$site"
"$bin/python" scripts/website/links.py "$site"
if ! command -v node >/dev/null || ! command -v "${CHROMIUM:-chromium}" >/dev/null; then
  echo "note: no Node.js or no Chromium; the site was not looked at in a browser"
  exit 0
fi
[ -d tests/browser/node_modules/playwright-core ] || npm ci --silent --no-audit --no-fund --ignore-scripts --prefix tests/browser
SITE="$site" SHOTS="$shots" node --test tests/browser/site.test.mjs
