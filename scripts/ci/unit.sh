#!/usr/bin/env bash
# The unit tests, which need no TensorFlow, with their coverage.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
"$bin/coverage" run -m pytest -m unit "$@"
"$bin/coverage" report --skip-covered --sort=cover
