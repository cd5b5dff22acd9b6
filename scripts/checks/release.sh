#!/usr/bin/env bash
# Build the release twice, in two folders and at two times of day: the bytes must be the same. Install sdist and wheel,
# each into a clean environment, and prove that both are this source.
#   bash scripts/checks/release.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
export VENV="${VENV:-.venv}"
bash scripts/release/build.sh "$work/first"
(umask 077 && TZ=Pacific/Auckland bash scripts/release/build.sh "$work/second" >/dev/null)
diff -r "$work/first" "$work/second" && echo "two builds, the same bytes:" && cat "$work/first/SHA256SUMS"
"${PYTHON:-python3}" -m venv "$work/clean"
ours="$("$VENV/bin/sonoedge" --version)"
for file in "$work"/first/*.whl "$work"/first/*.tar.gz; do
  # Without what it needs: this is about what the file holds. device_install.sh runs a device install.
  "$work/clean/bin/pip" install --quiet --disable-pip-version-check --no-deps --force-reinstall "$file"
  theirs="$(cd "$work" && clean/bin/sonoedge --version)"
  echo "$(basename "$file"): $theirs"
  if [ "$theirs" != "$ours" ]; then
    git diff --quiet HEAD -- && echo "error: it is not this source: $ours" >&2 && exit 1
    echo "note: the checkout has changes that are not committed; a release has none of them"
  fi
done
