#!/usr/bin/env bash
# pages.sh FOLDER: what each native library FOLDER/ABI/*.so is aligned to. It fits phones with 16 KB pages if each of
# its loadable segments is aligned to 16384 bytes or more.
set -euo pipefail
for library in "$1"/*/*.so; do
  smallest=
  for alignment in $(readelf -lW "$library" | awk '$1 == "LOAD" { print $NF }'); do
    if [ -z "$smallest" ] || [ $((alignment)) -lt "$smallest" ]; then smallest=$((alignment)); fi
  done
  [ -n "$smallest" ] || { echo "error: $library has no loadable segment" >&2; exit 1; }
  if [ "$smallest" -ge 16384 ]; then fits="16 KB pages: yes"; else fits="16 KB pages: no"; fi
  echo "${library#"$1"/}: segments aligned to $smallest bytes, $fits"
done
