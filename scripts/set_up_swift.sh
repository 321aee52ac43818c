#!/usr/bin/env bash
# Put Debian's Swift compiler into ~/.cache/edgewright-tests/swift, a small Debian of its own (2.7 GB on the disk, once).
# Exit 0 in any case: without it the tests of the Swift projects skip and say so.
set -euo pipefail
to="${1:-$HOME/.cache/edgewright-tests}/swift"
part="$to.part"
mirror="${DEBIAN_MIRROR:-http://deb.debian.org/debian}"

give_up() { echo "==> No Swift compiler: $1. Its tests skip."; exit 0; }

[ -x "$to/usr/bin/swiftc" ] && exit 0
[ "$(id -u)" = 0 ] || give_up "debootstrap requires root"
[ "$(df -Pk "$(dirname "$to")" 2>/dev/null | awk 'NR == 2 {print int($4 / 1048576)}')" -ge 5 ] 2>/dev/null ||
  give_up "5 GB must be free in $(dirname "$to")"
if ! command -v debootstrap >/dev/null 2>&1; then
  { apt-get -qq update && apt-get -qq install -y --no-install-recommends debootstrap >/dev/null; } ||
    give_up "debootstrap cannot be installed"
fi
rm -rf "$part"
echo "==> Setting up Debian's Swift compiler (750 MB to download, once)"
debootstrap --variant=minbase trixie "$part" "$mirror" >"$part.log" 2>&1 || give_up "$part.log has the reason"
chroot "$part" apt-get -qq install -y --no-install-recommends swiftlang libc6-dev libstdc++-14-dev >>"$part.log" 2>&1 ||
  give_up "Debian has no package swiftlang for this machine; $part.log has the reason"
rm -rf "$part"/var/cache/apt/archives/*.deb
mv "$part" "$to"
rm -f "$part.log"
