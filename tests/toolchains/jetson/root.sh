#!/usr/bin/env bash
# root.sh DIRECTORY: a Debian root with g++, CMake, GStreamer, doctest and ONNX Runtime's headers.
# 270 MB to download, 1 GB on disk.
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}") architecture=$(dpkg --print-architecture)
"$here/../debian-root.sh" "$1" "$architecture" bookworm bash coreutils g++ cmake make pkg-config \
  doctest-dev nlohmann-json3-dev libgstreamer1.0-dev libgstreamer-plugins-base1.0-dev libgstrtspserver-1.0-dev \
  gstreamer1.0-plugins-{base,good,bad,ugly} gstreamer1.0-libav gstreamer1.0-x gstreamer1.0-tools fonts-dejavu-core
# Some packages bring /bin and the like as folders, in place of the links to /usr.
for folder in bin sbin lib lib64; do
  if [ ! -L "$1/$folder" ]; then
    cp -a "$1/$folder/." "$1/usr/$folder/"
    rm -rf "${1:?}/$folder"
    ln -s "usr/$folder" "$1/$folder"
  fi
done
ln -sf bash "$1/usr/bin/sh"
# bookworm has no ONNX Runtime; trixie's headers are of a version that newer libraries serve too.
"$here/../debian-root.sh" "$1.headers" "$architecture" trixie libonnxruntime-dev
mv "$1.headers/usr/include/onnxruntime" "$1/usr/include/"
rm -rf "$1.headers"
