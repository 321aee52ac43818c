#!/bin/sh
# Fetch what the arm64 tests of apps need into ~/.cache/edgewright-tests/apps/arm64, without installing anything: the
# compiler zig and the runtimes' arm64 wheels (PyPI), and Debian trixie's C and C++ libraries for arm64. About 180 MB.
set -eu
python="${PYTHON:-python3}"
folder="${1:-$HOME/.cache/edgewright-tests/apps/arm64}"
if [ -f "$folder/ready-1" ]; then exit 0; fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/lists/partial" "$work/archives/partial" "$folder/root" "$folder/wheels"
chmod 755 "$work"
pip="$python -m pip --disable-pip-version-check --quiet"
$pip install --target "$folder/zig" --upgrade ziglang==0.15.1
for wheel in onnxruntime==1.32.0 ai-edge-litert==2.3.0; do
    $pip download --no-deps --only-binary=:all: --python-version 3.11 --platform manylinux_2_28_aarch64 \
        --platform manylinux_2_27_aarch64 --platform manylinux_2_17_aarch64 -d "$work" "$wheel"
done
for wheel in "$work"/*.whl; do "$python" -m zipfile -e "$wheel" "$folder/wheels"; done
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian trixie main" > "$work/sources.list"
set -- -o "Dir::Etc::SourceList=$work/sources.list" -o Dir::Etc::SourceParts=/dev/null -o "Dir::State::Lists=$work/lists" \
    -o "Dir::Cache=$work" -o APT::Sandbox::User=root -o APT::Architecture=arm64 -o APT::Architectures=arm64
apt-get "$@" -q update
(cd "$work" && apt-get "$@" -q download libc6 libgcc-s1 libstdc++6)
for package in "$work"/*.deb; do dpkg-deb -x "$package" "$folder/root"; done
ln -sfn usr/lib "$folder/root/lib"
# The first program in C++ takes minutes: zig compiles the C++ library for this processor.
echo '#include <string>
int main(int count, char **) { return static_cast<int>(std::string(count, 0).size()) - 1; }' > "$work/first.cpp"
ZIG_GLOBAL_CACHE_DIR="$folder/zig-cache" "$folder/zig/ziglang/zig" c++ -target aarch64-linux-gnu.2.28 -std=c++17 -O3 \
    "$work/first.cpp" -o "$work/first"
touch "$folder/ready-1"
