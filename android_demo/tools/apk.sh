#!/usr/bin/env bash
# apk.sh BUILD OLDEST_ANDROID_JAR KOTLIN DX MIN_SDK: BUILD/sonoedge-demo-debug.apk from the compiled classes and BUILD's parts,
# for arm64-v8a and x86_64 (the emulator), signed with a debug key; then what is in it.
set -euo pipefail
build="$1" android="$2" kotlin="$3" dx="$4" min_sdk="$5"
tools="$(dirname "${BASH_SOURCE[0]}")"
jdk="$(dirname "$(dirname "$(readlink -f "$(command -v javac)")")")"
work="$build/apk"
apk="$build/sonoedge-demo-debug.apk"
rm -rf "$work" "$apk"
mkdir -p "$work"

java -cp "$build/deps/*" proguard.ProGuard @"$tools/proguard.pro" \
  -injars "core/target/classes:app/target/classes:$build/tensorflow-lite/classes.jar:$build/tensorflow-lite-api/classes.jar" \
  -injars "$build/deps/kotlin-stdlib-$kotlin.jar(!META-INF/**)" \
  -libraryjars "$android(!META-INF/**):$jdk/jmods/java.base.jmod(!**.jar;!module-info.class)" \
  -libraryjars "$jdk/jmods/java.logging.jmod(!**.jar;!module-info.class)" \
  -outjars "$work/classes.jar" > "$work/proguard.log" 2>&1 || { grep -v '^Note' "$work/proguard.log" | tail -40 >&2; exit 1; }
java -cp "$build/deps/dalvik-dx-$dx.jar" com.android.dx.command.Main --dex --min-sdk-version="$min_sdk" \
  --output="$work/classes.dex" "$work/classes.jar"

cp "$build/resources.ap_" "$work/unaligned.apk"
for abi in arm64-v8a x86_64; do
  mkdir -p "$work/lib/$abi"
  cp "$build/tensorflow-lite/jni/$abi/libtensorflowlite_jni.so" "$work/lib/$abi/"
done
(cd core/target/classes && zip -q "$work/unaligned.apk" words/*.json)
(cd "$work" && zip -q unaligned.apk classes.dex && zip -q -0 -r unaligned.apk lib)
zipalign -p 4 "$work/unaligned.apk" "$work/aligned.apk"
keytool -genkeypair -keystore "$work/debug.keystore" -storepass android -keypass android -alias debug \
  -dname "CN=Debug" -keyalg RSA -keysize 2048 -validity 10000 > /dev/null 2>&1
apksigner sign --ks "$work/debug.keystore" --ks-pass pass:android --out "$apk" "$work/aligned.apk"

apksigner verify --min-sdk-version "$min_sdk" "$apk"
zipalign -c -p 4 "$apk"
aapt dump badging "$apk" | grep -E '^(package|sdkVersion|targetSdkVersion|uses-permission|launchable-activity|native-code)'
unzip -l "$apk" | grep -E 'classes.dex|\.so$|AndroidManifest|resources.arsc|words/'
# Nothing that Android's runtime lacks: no call through LambdaMetafactory or StringConcatFactory is left.
if grep -qaE 'LambdaMetafactory|StringConcatFactory' "$work/classes.dex"; then
  echo "error: classes.dex still uses invokedynamic" >&2
  exit 1
fi
bash "$tools/pages.sh" "$work/lib" | tee "$build/reports/pages.txt"
size=$(stat -c %s "$apk")
echo "sonoedge-demo-debug.apk: $size bytes, no bundle inside"
[ "$size" -lt 15000000 ] || { echo "error: the APK is larger than 15 MB" >&2; exit 1; }
