#!/usr/bin/env bash
# Run a bundle on emulated Arm boards (qemu-user) and compare with this machine. Without a board, as root, on Debian:
#   apt-get install mmdebstrap qemu-user-static
#   bash scripts/checks/arm.sh BUNDLE IMAGES [COUNT]
#
# Builds a Debian 12 root for arm64 (what the extra `pi` gives on a 64-bit Raspberry Pi OS) and one for
# armhf (`pi32`), installs our wheel into both, and runs `sonoedge verify`, `predict` and `predict
# --explain` for every artifact there and here. Ends with a table; fails where a decision differs or a replay fails.
#   ARM_WORK   where roots and results are kept for the next run (default: ~/.cache/sonoedge/arm)
#   ARM_ARTIFACTS  only these artifacts, separated by commas
#   ARM_TARGETS    default: arm64:cortex-a72,arm64:cortex-a76,armhf:cortex-a7
# A run that is cut short goes on where it was. Emulated times say nothing about a board.
set -euo pipefail
bundle="$(realpath "$1")" images="$(realpath "$2")" count="${3:-50}"
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
python="${PYTHON:-.venv/bin/python}"
work="${ARM_WORK:-${XDG_CACHE_HOME:-$HOME/.cache}/sonoedge/arm}"
mkdir -p "$work"
for tool in mmdebstrap qemu-aarch64-static qemu-arm-static; do
  command -v "$tool" >/dev/null || { echo "error: $tool is missing: apt-get install mmdebstrap qemu-user-static" >&2; exit 1; }
done
# The release alone: these roots are thrown away, and a mirror's update archives are at times half synchronised.
mirror="$(apt-get indextargets --format '$(REPO_URI)' 'Codename: bookworm' 'Created-By: Packages' | head -n 1)"
say() { printf '== %s\n' "$*"; }
pip() { "$python" -m pip --disable-pip-version-check "$@"; }

tags=(--only-binary=:all: --python-version 3.11 --implementation cp --abi cp311)
arm64_tags=()
for tag in manylinux_2_{36,35,34,31,28,27,17}_aarch64 manylinux2014_aarch64; do arm64_tags+=(--platform "$tag"); done

say "wheel"
# Without what earlier builds left: setuptools would pack it again.
rm -rf "$work/wheel" build && pip wheel --quiet --no-deps --wheel-dir "$work/wheel" .
wheel="$(ls "$work"/wheel/*.whl)"

if [ ! -x "$work/arm64/usr/bin/python3.11" ]; then
  say "arm64 root"
  mmdebstrap --quiet --mode=root --arch=arm64 --variant=extract \
    --include=python3,ca-certificates,libgomp1,libstdc++6,zlib1g bookworm "$work/arm64.new" $mirror
  cp "$(command -v qemu-aarch64-static)" "$work/arm64.new/qemu"
  mv "$work/arm64.new" "$work/arm64"
fi
say 'wheel with the extra pi'
rm -rf "$work/arm64/opt/site"
pip install --quiet --target "$work/arm64/opt/site" "${tags[@]}" "${arm64_tags[@]}" --constraint constraints.txt "$wheel[pi]"
echo "device install, arm64: $(du -sm "$work/arm64/opt/site" | cut -f1) MB"
if [ ! -d "$work/arm64/opt/extra" ]; then
  say "openvino, onnxruntime (optional on a Pi)"
  pip install --quiet --target "$work/arm64/opt/extra.new" "${tags[@]}" "${arm64_tags[@]}" --constraint constraints.txt \
    openvino onnxruntime
  mv "$work/arm64/opt/extra.new" "$work/arm64/opt/extra"
fi

if [ ! -x "$work/armhf/usr/bin/python3.11" ]; then
  say "armhf root"
  # NumPy 1 and Pillow from Debian: PyPI has no 32-bit Arm wheels of them (Raspberry Pi OS adds an index that has).
  mmdebstrap --quiet --mode=root --arch=armhf --variant=extract \
    --include=python3,python3-numpy,python3-pil,ca-certificates,libgomp1,libstdc++6,zlib1g bookworm "$work/armhf.new" $mirror
  cp "$(command -v qemu-arm-static)" "$work/armhf.new/qemu"
  mv "$work/armhf.new" "$work/armhf"
fi
say 'wheel with the extra pi32'
rm -rf "$work/armhf/opt/site"
pip install --quiet --target "$work/armhf/opt/site" "${tags[@]}" --platform manylinux_2_34_armv7l --no-deps \
  "$(grep -o 'tflite-runtime==[0-9.]*' pyproject.toml)" "$wheel"
echo "device install, armhf: $(du -cm "$work"/armhf/opt/site "$work"/armhf/usr/lib/python3/dist-packages/{numpy,PIL} | tail -1 | cut -f1) MB"

say "replay"
exec "$python" scripts/checks/arm_replay.py --work "$work" --bundle "$bundle" --images "$images" --count "$count" \
  --targets "${ARM_TARGETS:-arm64:cortex-a72,arm64:cortex-a76,armhf:cortex-a7}" ${ARM_ARTIFACTS:+--artifacts "$ARM_ARTIFACTS"}
