#!/usr/bin/env bash
# Make a virtual environment with everything (training, export, tests), at the locked versions.
#   bash scripts/setup.sh            -> .venv
#   VENV=/some/where bash scripts/setup.sh
# Needs Python 3.11 or newer; PYTHON names another interpreter than python3. Run again to update.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
venv="${VENV:-.venv}"
python="${PYTHON:-python3}"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
  echo "error: Python 3.11 or newer is needed; $python is $("$python" --version 2>&1)." >&2
  exit 1
}
if [ ! -x "$venv/bin/python" ]; then
  "$python" -m venv "$venv" || {
    echo "error: cannot make a virtual environment (on Debian: apt-get install python3-venv)." >&2
    exit 1
  }
fi
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[all,dev]'
echo "ready: $venv/bin/sonoedge --help"
