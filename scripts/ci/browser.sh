#!/usr/bin/env bash
# The page and a report in a real browser.
#   bash scripts/ci/browser.sh [BUNDLE IMAGES]     (default: what `sonoedge demo` makes)
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
bash scripts/ci/packages.sh node nodejs npm npm chromium chromium
bundle="${1:-}" images="${2:-}"
if [ -z "$bundle" ]; then
  demo="$(mktemp -d)"
  trap 'rm -rf "$demo"' EXIT
  "$bin/sonoedge" demo --quiet --out "$demo/demo"
  bundle="$demo/demo/bundle" images="$demo/demo/phantoms"
fi
bash scripts/checks/browser.sh "$bundle" "$images"
bash scripts/checks/report.sh
