#!/usr/bin/env bash
# Prove that an installation takes nothing of the working directory for its own: commands and their child processes
# run in a folder with a train.py, an export/ and the like.
#   bash scripts/checks/one_name.sh ENVIRONMENT/bin BUNDLE
set -euo pipefail
bin="$(realpath "$1")" bundle="$(realpath "$2")"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
cd "$work"
stranger() {
  mkdir "$1"
  echo "raise SystemExit('$1 of the working directory was imported')" | tee "$1/__init__.py" >"$1.py"
}
for name in edge_runtime train export benchmarks; do stranger "$name"; done
"$bin/python" -P -c "
import importlib.util
found = [name for name in ('edge_runtime', 'train', 'export', 'benchmarks') if importlib.util.find_spec(name)]
raise SystemExit(f'the installation brought {found}' if found else 0)"
# A device lacks what the workstation's commands need, and says so; what it has must not come from here.
helps() { "$@" --help >/dev/null 2>help.log || grep -qF '.[train]' help.log || { cat help.log >&2; exit 1; }; }
for command in train export; do helps "$bin/sonoedge" "$command"; done
for package in train export; do helps "$bin/python" -m "sonoedge.$package"; done
"$bin/sonoedge" benchmark --help >/dev/null
for package in edge_runtime benchmarks; do "$bin/python" -m "sonoedge.$package" --help >/dev/null; done
# Child processes take no other package from here either.
stranger numpy
"$bin/sonoedge" verify "$bundle" >/dev/null
"$bin/sonoedge" benchmark --device-run "$bundle" --mode none --threads 1 --out run.json | tee log
if grep -q failed log; then exit 1; fi
test -s run.json
echo "one name: nothing of the working directory was imported"
