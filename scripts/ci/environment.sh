# For `source`: the checkout's root, and $bin with everything installed; made if it is not there. VENV as in setup.sh.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
export VENV="${VENV:-.venv}" PYTHONDONTWRITEBYTECODE=1 TF_CPP_MIN_LOG_LEVEL=3
bin="$VENV/bin"
[ -x "$bin/sonoedge" ] || bash scripts/setup.sh
