#!/usr/bin/env bash
# All tests, or one half of them: most keep one core busy, so two machines or two cores share them.
#   bash scripts/ci/integration.sh                     both halves at once, the slow tests too
#   bash scripts/ci/integration.sh first "not slow"    one half, on a machine of its own
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
half="${1:-both}" which="${2:-slow or not slow}"
first=(tests/export tests/train/distillation)
case "$half" in
  first) exec "$bin/pytest" --durations 12 -m "$which" "${first[@]}" ;;
  second) exec "$bin/pytest" --durations 12 -m "$which" "${first[@]/#/--ignore=}" ;;
esac
log="$(mktemp)"
trap 'rm -f "$log"' EXIT
"$bin/pytest" --durations 12 -m "$which" "${first[@]}" >"$log" 2>&1 &
other=$!
failed=0
"$bin/pytest" --durations 12 -m "$which" "${first[@]/#/--ignore=}" || failed=$?
wait "$other" || failed=$?
cat "$log"
exit "$failed"
