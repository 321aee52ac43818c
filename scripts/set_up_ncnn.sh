#!/bin/sh
# Build ncnn's shared library with its C interface into ~/.cache/edgewright-tests/apps/ncnn: its Python package has none.
# Only the layers of the demo's model, about 2 minutes. Needs cmake and a C++ compiler.
set -eu
python="${PYTHON:-python3}"
folder="${1:-$HOME/.cache/edgewright-tests/apps/ncnn}"
if [ -f "$folder/lib/libncnn.so" ]; then exit 0; fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# pip unpacks the sources, then rejects them: their version is the day on which they are read.
TMPDIR="$work" "$python" -m pip --disable-pip-version-check --quiet download --no-clean --no-deps --no-binary ncnn \
    ncnn==1.0.20261020 -d "$work/none" >"$work/log" 2>&1 || true
source=$(ls -d "$work"/pip-download-*/ncnn_* | head -n 1)
layers=" binaryop cast clip concat convolution convolutiondepthwise eltwise flatten innerproduct input packing padding \
pooling relu reshape softmax split "
set --
for layer in $(grep -o 'ncnn_add_layer([A-Za-z0-9_]*' "$source/src/CMakeLists.txt" | sed 's/.*(//' | tr A-Z a-z | sort -u); do
    case "$layers" in *" $layer "*) ;; *) set -- "$@" "-DWITH_LAYER_$layer=OFF" ;; esac
done
for part in VULKAN PYTHON BUILD_TOOLS BUILD_EXAMPLES BUILD_BENCHMARK BUILD_TESTS RUNTIME_CPU AVX AVX2 AVX512 XOP F16C INT8 BF16; do
    set -- "$@" "-DNCNN_$part=OFF"
done
cmake -S "$source" -B "$work/build" -DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_FLAGS_RELEASE=-O1 -DNCNN_SHARED_LIB=ON \
    -DNCNN_INSTALL_SDK=ON -DCMAKE_INSTALL_LIBDIR=lib "-DCMAKE_INSTALL_PREFIX=$folder" "$@" >"$work/log"
cmake --build "$work/build" --target install -j 2 >"$work/log"
