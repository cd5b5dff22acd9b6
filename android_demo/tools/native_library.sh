#!/usr/bin/env bash
# native_library.sh AAR_FOLDER OUT: the AAR's x86_64 interpreter, and what lets it run on glibc (bionic_on_glibc.c).
set -euo pipefail
source="$(dirname "${BASH_SOURCE[0]}")/bionic_on_glibc.c"
library="$1/jni/x86_64/libtensorflowlite_jni.so"
out="$2"
mkdir -p "$out"
cp "$library" "$out/"
{
  printf '.section .note.GNU-stack,"",@progbits\n.text\n'
  nm -D --undefined-only "$library" | awk '{print $NF}' | sed -n 's/@LIBC$//p' | while read -r name; do
    grep -qF "BIONIC($name);" "$source" ||
      printf '.globl bionic_%s\n.type bionic_%s,@function\nbionic_%s: jmp *%s@GOTPCREL(%%rip)\n.symver bionic_%s,%s@LIBC\n' \
        "$name" "$name" "$name" "$name" "$name" "$name"
  done
} > "$out/forward.s"
echo 'LIBC { };' > "$out/versions.map"
gcc -O1 -Wall -Werror -shared -fPIC -Wl,-soname,libc.so -Wl,--version-script="$out/versions.map" \
  -o "$out/libc.so" "$source" "$out/forward.s" -lm
for name in m dl log; do ln -sf libc.so "$out/lib$name.so"; done
