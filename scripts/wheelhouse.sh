#!/usr/bin/env bash
# Collect SonoEdge and everything it needs in one folder of wheels, for a board without a network.
usage='usage:
  bash scripts/wheelhouse.sh                                Raspberry Pi OS 64-bit, Python 3.11 (Debian 12), extra pi
  bash scripts/wheelhouse.sh --python 3.13 --extras pi,serve,trust             Debian 13, with page and signatures
  bash scripts/wheelhouse.sh --this-machine --extras pi,openvino --out wheels  this machine and this Python
  bash scripts/wheelhouse.sh --platform manylinux_2_28_x86_64 --platform manylinux2014_x86_64       another machine
The folder (default: wheelhouse) must not exist. Give --platform once for each tag that the board accepts. PYTHON names
another interpreter than python3; the best one is of the version that the board has, because pip asks it which of the
small packages a Python needs.'
set -euo pipefail
refuse() {
  printf 'error: %s\n' "$1" >&2
  exit 2
}
start="$PWD"
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python="${PYTHON:-python3}" out=wheelhouse extras=pi version=3.11 here=no platforms=()
while [ $# -gt 0 ]; do
  case "$1" in
    -h | --help) printf '%s\n' "$usage" && exit 0 ;;
    --this-machine) here=yes && shift && continue ;;
    --out | --extras | --python | --platform) [ $# -gt 1 ] || refuse "$1 needs a value." ;;
    *) printf '%s\n' "$usage" >&2 && refuse "unknown option $1" ;;
  esac
  case "$1" in
    --out) out="$2" ;;
    --extras) extras="$2" ;;
    --python) version="$2" ;;
    --platform) platforms+=(--platform "$2") ;;
  esac
  shift 2
done
case "$out" in /*) ;; *) out="$start/$out" ;; esac
[ ! -e "$out" ] || refuse "$out exists. Name a new folder with --out."
[[ "$version" =~ ^3\.[0-9]+$ ]] || refuse "--python takes a version such as 3.11 or 3.13. Received: $version"
"$python" -m pip --version >/dev/null 2>&1 || refuse "$python has no pip (on Debian: apt-get install python3-pip)."
# pip itself only warns of an unknown extra.
"$python" - "$extras" <<'PYTHON' || exit 2
import re, sys
known = re.search(r"(?ms)^\[project\.optional-dependencies\]\n(.*?)^\[", open("pyproject.toml").read())[1]
names = re.findall(r"(?m)^([a-z0-9]+) = ", known)
if wrong := [name for name in sys.argv[1].split(",") if name not in names]:
    sys.exit(f"error: unknown extra {wrong[0]!r}. Extras: {', '.join(names)}.")
PYTHON

target=()
if [ "$here" = yes ]; then
  [ ${#platforms[@]} -eq 0 ] || refuse "--this-machine and --platform are two targets: give one of them."
else
  # pip takes each tag by itself: the newer ones do not stand for the older ones. Debian 12 has glibc 2.36.
  if [ ${#platforms[@]} -eq 0 ]; then
    for tag in manylinux_2_{36,35,34,31,28,27,17}_aarch64 manylinux2014_aarch64; do platforms+=(--platform "$tag"); done
  fi
  target=(--python-version "$version" --implementation cp --abi "cp${version/./}" --abi abi3 --abi none "${platforms[@]}")
fi

work="$(mktemp -d "$(dirname "$out")/.wheelhouse.XXXXXX")"
trap 'rm -rf "$work"' EXIT
rm -rf build # of an earlier version: its modules would be in the wheel
"$python" -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir "$work" .
wheel="$(cd "$work" && echo sonoedge-*.whl)"
"$python" -m pip download --quiet --disable-pip-version-check --only-binary=:all: --constraint constraints.txt \
  "${target[@]}" --dest "$work" "$work/$wheel[$extras]" || {
  echo "error: there are not all wheels for this platform, Python and extras; pip says above which ones are missing." >&2
  exit 1
}
(cd "$work" && sha256sum -- *.whl >SHA256SUMS)
chmod 755 "$work"
mv -T "$work" "$out"
count="$(find "$out" -name '*.whl' | wc -l)"
cat <<TEXT
$count wheels, $(du -sm "$out" | cut -f1) MB, in $out
Copy the folder to the board; there, in the folder and in a virtual environment:
  sha256sum --check --quiet SHA256SUMS
  pip install --no-index --find-links . "sonoedge[$extras]"
TEXT
