#!/usr/bin/env bash
# Be a newcomer: a fresh clone of what is committed, an empty home, and every command of README's first two sections as
# it stands there. Each is timed; a command that fails, or a picture or word that README promises and that does not
# come, is an error.
#   bash scripts/checks/first_minute.sh            in a temporary folder and home
#   bash scripts/checks/first_minute.sh ROOT       in a chroot: a Debian root with python3, python3-venv and git (root)
#   mmdebstrap --include=python3,python3-venv,git,ca-certificates bookworm ROOT       makes such a root
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
root="${1:-}"
work="$(mktemp -d ${root:+-p "$root/tmp"})"
trap 'rm -rf "$work"' EXIT
git clone --quiet --no-hardlinks . "$work/sonoedge"
mkdir "$work/home"
python="$("${PYTHON:-python3}" -c 'import sys; print(sys.executable)')"
[ -n "$root" ] || ln -s "$python" "$work/home/python3"
inside="${work#"$root"}"
# Nothing of this user's environment: no PYTHONPATH, no caches, no settings. Where packages come from must stay.
keep=(PATH="$inside/home:/usr/local/bin:/usr/bin:/bin" HOME="$inside/home" LANG=C.UTF-8)
for name in ${!PIP_*} SSL_CERT_FILE SSL_CERT_DIR REQUESTS_CA_BUNDLE HTTPS_PROXY https_proxy; do
  [ -z "${!name:-}" ] || keep+=("$name=${!name}")
done
enter=()
[ -z "$root" ] || enter=(chroot "$root")
say() { "${enter[@]}" env -i "${keep[@]}" bash -euo pipefail -c "cd '$inside/sonoedge' && $1"; }
readme="$work/sonoedge/README.md"
# README's own words: the first line of the block below Install, then all lines below Sixty seconds.
mapfile -t commands < <(python3 - "$readme" <<'PYTHON'
import re
import sys

text = open(sys.argv[1], encoding="utf-8").read()
blocks = lambda title: re.findall(r"```(\w*)\n(.*?)```", text.partition(f"\n## {title}\n")[2].partition("\n## ")[0], re.S)
print(blocks("Install")[0][1].splitlines()[0].partition("#")[0].strip())
for kind, block in blocks("Sixty seconds"):
    if kind == "python":
        print(".venv/bin/python -c " + "'" + block.replace("\n", "; ").replace("; ; ", "; ").rstrip("; ") + "'")
    else:
        print("\n".join(line.partition("#")[0].strip() for line in block.splitlines() if line.strip()))
PYTHON
)
[ ${#commands[@]} -ge 3 ] || { echo "error: README has no commands below Install and Sixty seconds" >&2; exit 1; }
total=$SECONDS
for command in "${commands[@]}"; do
  started=$SECONDS
  say "$command" >"$work/out" 2>"$work/err" || { cat "$work/out" "$work/err" >&2; echo "error: README's command failed: $command" >&2; exit 1; }
  printf '%5d s  %s\n' $((SECONDS - started)) "$command"
  cat "$work/out" >>"$work/all"
done
promised="$(sed -n 's/^prints `\([^`]*\)`.*/\1/p' "$readme")"
grep -q "^$promised" "$work/all" || { echo "error: README promises '$promised', and it was not printed" >&2; exit 1; }
for file in heat/phantom.panel.png heat.png; do
  [ -s "$work/sonoedge/$file" ] || { echo "error: README promises $file" >&2; exit 1; }
done
heat="$(sed -n 's/^Heat map of a test image: //p' "$work/all")"
[ -n "$heat" ] && [ -s "$work/sonoedge/$heat" -o -s "$root$heat" ] || { echo "error: demo's heat map is not there" >&2; exit 1; }
printf '%5d s  in all\n' $((SECONDS - total))
