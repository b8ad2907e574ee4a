#!/usr/bin/env bash
# root.sh DIRECTORY PYTHON REQUIREMENT...: an emulated aarch64 Python 3.11 with wheels in /opt/site, and its emulator.
# PYTHON has pip, and is of this machine. 100 MB to download, 270 MB on disk.
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}") root=$1 python=$2
shift 2
"$here/../debian-root.sh" "$root" arm64 bookworm python3-minimal libpython3-stdlib libstdc++6
"$here/../debian-root.sh" "$root.emulator" "$(dpkg --print-architecture)" bookworm qemu-user-static
mv "$root.emulator/usr/bin/qemu-aarch64-static" "$root/usr/bin/"
rm -rf "$root.emulator"
"$python" -m pip install -q --platform manylinux_2_28_aarch64 --platform manylinux2014_aarch64 --python-version 3.11 \
  --only-binary=:all: --target "$root/opt/site" "$@"
# What pip and dpkg would have done: from source, an emulated Python takes seconds to import what it needs.
chroot "$root" /usr/bin/qemu-aarch64-static /usr/bin/python3 -m compileall -q /usr/lib/python3.11 /opt/site
