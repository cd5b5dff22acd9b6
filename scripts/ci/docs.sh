#!/usr/bin/env bash
# The documentation site: built strictly, every link followed, looked at in a browser.
#   bash scripts/ci/docs.sh [SITE]
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
bash scripts/ci/packages.sh node nodejs npm npm chromium chromium
bash scripts/checks/site.sh "${1:-build/site}"
