#!/usr/bin/env bash
# Build what is released: sdist, wheel, SBOM, digests, and a signature if there is a key. Only what is committed
# enters it, and the same commit gives the same bytes. The wheel is built from the sdist.
#   bash scripts/release/build.sh OUT
#   SONOEDGE_RELEASE_KEY=release.key bash scripts/release/build.sh OUT     (a key of `sonoedge sign --new-key`)
# VENV as in setup.sh. Run scripts/fetch_litert_js.sh first if the wheel shall carry the browser's interpreter.
set -euo pipefail
mkdir -p "$1"
out="$(realpath "$1")"
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
python="$(cd "$(dirname "${VENV:-.venv}/bin/python")" && pwd)/python"
"$python" -c "import build, twine, wheel" 2>/dev/null ||
  "$python" -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[release]'
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
umask 022
export SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}"
mkdir "$work/source"
git archive HEAD | tar -x -C "$work/source"
vendor=edge_runtime/serve/vendor
[ ! -d "$vendor" ] || cp -r "$vendor" "$work/source/$vendor"
"$python" -m build --no-isolation --sdist --outdir "$work/raw" "$work/source" >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
"$python" scripts/release/normal.py "$work"/raw/*.tar.gz "$out"
mkdir "$work/unpacked"
tar -xzf "$out"/*.tar.gz -C "$work/unpacked" --strip-components=1
"$python" -m build --no-isolation --wheel --outdir "$out" "$work/unpacked" >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
"$python" -m twine check --strict "$out"/*.tar.gz "$out"/*.whl
"$python" scripts/release/sbom.py "$out"
(cd "$out" && sha256sum -- *.tar.gz *.whl sbom.cdx.json >SHA256SUMS)
if [ -n "${SONOEDGE_RELEASE_KEY:-}" ]; then
  "$python" scripts/release/sign.py "$out/SHA256SUMS" "$SONOEDGE_RELEASE_KEY"
else
  echo "note: no SONOEDGE_RELEASE_KEY; nothing was signed"
fi
