#!/usr/bin/env bash
# What is installed: one name, the wheel with one interpreter, and a release that is built twice to the same bytes.
#   bash scripts/ci/wheel.sh [BUNDLE IMAGE]        (default: the example's)
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
bundle="${1:-example/bundle}" image="${2:-example/phantom.png}"
bash scripts/checks/one_name.sh "$bin" "$bundle"
bash scripts/checks/device_install.sh "$bundle" "$image"
bash scripts/checks/release.sh
