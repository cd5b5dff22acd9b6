#!/usr/bin/env bash
# Prove the device install: the wheel with one interpreter, in an environment of its own, runs a bundle, and neither
# its distributions nor its megabytes have grown (device_size.py).
#   bash scripts/checks/device_install.sh BUNDLE IMAGE
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
bundle="$1" image="$2"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
rm -rf build # of an earlier version: its modules would be in the wheel
"$work/venv/bin/pip" wheel --quiet --disable-pip-version-check --no-deps --wheel-dir "$work" .
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --constraint constraints.txt "$(ls "$work"/*.whl)[pi]"
"$work/venv/bin/python" scripts/checks/device_size.py
if unzip -Z1 "$work"/*.whl | grep -vE '^sonoedge(/|-[^/]*\.dist-info/)'; then
  echo "error: the wheel holds more than sonoedge" >&2
  exit 1
fi
bash scripts/checks/one_name.sh "$work/venv/bin" "$bundle"
bundle="$(realpath "$bundle")" image="$(realpath "$image")"
cd "$work"
venv/bin/sonoedge verify "$bundle"
venv/bin/sonoedge predict --bundle "$bundle" --json "$image"
# The same from Python, as README and the guides show it.
venv/bin/python - "$bundle" "$image" <<'PYTHON'
import sys

import sonoedge

bundle, image = sys.argv[1:]
model = sonoedge.load(bundle)
result = model(image)
print(result.label, result.probability, result.verdict)
result.plot().save("heat.png")
assert [answer.logit for answer in model.stream([image, image])] == [result.logit] * 2
assert not {"tensorflow", "keras", "sklearn", "scipy"} & set(sys.modules)
PYTHON
test -s heat.png
if venv/bin/sonoedge train --data . >/dev/null 2>message; then
  echo "error: train ran without its extra" >&2
  exit 1
fi
grep -qF '.[train]' message
