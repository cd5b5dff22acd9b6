#!/usr/bin/env bash
# Install what is not Python and is missing, on Debian: pairs of a command and the package that brings it.
#   bash scripts/ci/packages.sh node nodejs npm npm chromium chromium
set -euo pipefail
missing=()
while [ $# -gt 0 ]; do
  command -v "$1" >/dev/null || missing+=("$2")
  shift 2
done
[ ${#missing[@]} -eq 0 ] && exit
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
