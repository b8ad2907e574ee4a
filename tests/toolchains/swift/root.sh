#!/usr/bin/env bash
# root.sh DIRECTORY: a Debian root with Swift 6.0, which Debian has from trixie on. 570 MB to download, 2.6 GB on disk.
set -euo pipefail
"$(dirname "${BASH_SOURCE[0]}")/../debian-root.sh" "$1" "$(dpkg --print-architecture)" trixie \
  swiftlang libc6-dev libstdc++-14-dev bash coreutils git
mkdir "$1/stubs"
