#!/usr/bin/env bash
# The Android demo: compiled, its tests run on the JVM, an APK.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
bash scripts/ci/packages.sh javac openjdk-17-jdk-headless mvn maven gcc gcc unzip unzip
PYTHON="$(realpath -s "$bin/python")" bash android_demo/check
