#!/usr/bin/env bash
# root.sh DIRECTORY: the Kotlin compiler from npm, and JUnit and org.json from Debian. 95 MB to download.
# Nothing in it is entered: the jars run in this machine's Java.
set -euo pipefail
npm install --prefix "$1" --ignore-scripts --no-audit --no-fund --no-save kotlin-compiler@2.4.20
"$(dirname "${BASH_SOURCE[0]}")/../debian-root.sh" "$1/debian" "$(dpkg --print-architecture)" bookworm \
  junit4 libhamcrest-java libandroid-json-org-java
