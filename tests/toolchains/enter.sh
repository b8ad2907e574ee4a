#!/usr/bin/env bash
# enter.sh ROOT WORK [SOURCE:PLACE]... -- COMMAND...: runs a command in an unpacked root, which stays unchanged.
# WORK is /work there, and its folder tmp is /tmp; every SOURCE is seen, read-only, at its PLACE. All mounts and
# processes end with this script. Needs root.
set -euo pipefail

if [ -z "${INSIDE:-}" ]; then
  INSIDE=1 exec unshare --mount --propagation private --pid --fork --kill-child --mount-proc "${BASH_SOURCE[0]}" "$@"
fi
root=$1 work=$2
shift 2
mkdir -p "$work/tmp"
mount --bind "$root" "$root"
mount -o remount,bind,ro "$root"
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
mount --rbind /dev "$root/dev"
mount --bind "$work" "$root/work"
mount --bind "$work/tmp" "$root/tmp"
while [ "$1" != -- ]; do
  mount --rbind "${1%%:*}" "$root/${1#*:}"
  shift
done
shift
# Not exec: as process 1 a program that crashes is not ended by its own signal.
env -i PATH=/usr/bin:/usr/sbin LANG=C.UTF-8 HOME=/work TMPDIR=/tmp chroot "$root" "$@"
