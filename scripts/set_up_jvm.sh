#!/bin/sh -e
# Set up what compiles and runs the Kotlin sources on a JVM, once: the Kotlin compiler (npm, 90 MB) and ONNX Runtime's
# Java binding with its native libraries, which is in a source archive on PyPI (165 MB). Needs Java 17, npm and pip.
home="${EDGEWRIGHT_TEST_CACHE:-$HOME/.cache/edgewright-tests}/apps"
mkdir -p "$home"
cd "$home"
if [ ! -f kotlin/lib/kotlin-compiler.jar ]; then
    npm pack --silent kotlin-compiler@2.4.20
    rm -rf kotlin.part
    mkdir kotlin.part
    tar xzf kotlin-compiler-2.4.20.tgz -C kotlin.part --strip-components=1
    mv kotlin.part kotlin
    rm kotlin-compiler-2.4.20.tgz
fi
if [ ! -f ort/ai/onnxruntime/OrtSession.class ]; then
    "${PYTHON:-python3}" -m pip download --quiet --no-deps --no-binary :all: --no-build-isolation pyserini==1.6.0 --dest . ||
        [ -f pyserini-1.6.0.tar.gz ] # pip keeps the archive, and may fail afterwards to read its metadata
    rm -rf ort.part
    mkdir ort.part
    tar xzf pyserini-1.6.0.tar.gz -C ort.part --wildcards '*fatjar.jar'
    unzip -qo "$(find ort.part -name '*fatjar.jar' | head -n 1)" 'ai/onnxruntime/*' -d ort.part/out
    rm -rf ort
    mv ort.part/out ort
    rm -rf ort.part pyserini-1.6.0.tar.gz
fi
