#!/usr/bin/env bash
# Put LiteRT.js (the interpreter of offline mode, 6 MB, Apache-2.0) beside the page. Not in git; the version and
# its digests are locked in tests/browser/package-lock.json. Run it before building a wheel that shall carry it.
#   bash scripts/fetch_litert_js.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
target=edge_runtime/serve/vendor
command -v npm >/dev/null || {
  echo "error: npm is needed (on Debian: apt-get install npm)." >&2
  exit 1
}
npm ci --silent --no-audit --no-fund --ignore-scripts --prefix tests/browser
modules=tests/browser/node_modules/@litertjs
rm -rf "$target" && mkdir -p "$target/wasm"
# Browsers do not know bare package names without an inline import map, which the page's policy forbids.
sed 's#from "@litertjs/wasm-utils"#from "./wasm-utils.js"#; /^\/\/# sourceMappingURL/d' "$modules/core/dist/index.js" > "$target/index.js"
sed '/^\/\/# sourceMappingURL/d' "$modules/wasm-utils/dist/index.js" > "$target/wasm-utils.js"
for kind in "" _compat; do
  cp "$modules/core/wasm/litert_wasm${kind}_internal.js" "$target/wasm/"
  # As it is sent: a third of the bytes on the device's card, in its memory and on the air.
  gzip -9 --no-name --stdout "$modules/core/wasm/litert_wasm${kind}_internal.wasm" > "$target/wasm/litert_wasm${kind}_internal.wasm.gz"
done
echo "LiteRT.js: $(du -sh "$target" | cut -f1) in $target"
