#!/bin/sh
# Unpack Debian trixie's qemu-user (static) into ~/.cache/edgewright-tests/qemu, without installing anything.
set -eu
folder="${1:-$HOME/.cache/edgewright-tests/qemu}"
if [ -x "$folder/usr/bin/qemu-aarch64" ]; then exit 0; fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/lists/partial" "$work/archives/partial" "$folder"
chmod 755 "$work"
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian trixie main" > "$work/sources.list"
set -- -o "Dir::Etc::SourceList=$work/sources.list" -o Dir::Etc::SourceParts=/dev/null -o "Dir::State::Lists=$work/lists" \
    -o "Dir::Cache=$work" -o APT::Sandbox::User=root
apt-get "$@" -q update
cd "$work"
apt-get "$@" -q download qemu-user
dpkg-deb -x qemu-user_*.deb "$folder"
