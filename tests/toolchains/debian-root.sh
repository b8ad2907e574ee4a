#!/usr/bin/env bash
# debian-root.sh DIRECTORY ARCHITECTURE SUITE PACKAGE...: unpacks Debian packages and all they depend on.
# Nothing is configured and no program of the packages runs, so any architecture will do on any machine with apt.
set -euo pipefail
root=$(realpath -m "$1") architecture=$2 suite=$3
shift 3

mkdir -p "$root"/usr/{bin,sbin,lib,lib64} "$root"/{dev,proc,sys,tmp,host,edge,work}
for folder in bin sbin lib lib64; do
  [ -e "$root/$folder" ] || ln -s "usr/$folder" "$root/$folder"
done

state=$root/.apt
mkdir -p "$state"/{lists,cache/archives}/partial
: >"$state/status"
# The machine's own mirror where it runs Debian: a firewall may let nothing else through.
# shellcheck disable=SC2016  # apt's own variable
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' 2>/dev/null |
  grep -v security | head -n 1) || true
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] ${mirror:-http://deb.debian.org/debian} $suite main" \
  >"$state/sources.list"

apt() {
  apt-get -q -o APT::Architecture="$architecture" -o APT::Architectures="$architecture" -o APT::Sandbox::User=root \
    -o APT::Install-Recommends=false -o Acquire::Languages=none -o Acquire::Retries=2 -o Acquire::http::Timeout=60 \
    -o Dir::State="$state" -o Dir::State::status="$state/status" -o Dir::Cache="$state/cache" \
    -o Dir::Etc::SourceList="$state/sources.list" -o Dir::Etc::SourceParts=/dev/null \
    -o Dir::Etc::Preferences=/dev/null -o Dir::Etc::PreferencesParts=/dev/null "$@"
}
apt update -o APT::Update::Error-Mode=any
apt install -y --download-only "$@"
for package in "$state"/cache/archives/*.deb; do
  dpkg-deb -x "$package" "$root"
done
rm -rf "$state"
