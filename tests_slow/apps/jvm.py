"""Kotlin on the JVM: the compiler and ONNX Runtime's Java binding, as scripts/set_up_jvm.sh leaves them."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

CACHE = Path(os.environ.get("EDGEWRIGHT_TEST_CACHE", Path.home() / ".cache/edgewright-tests")) / "apps"
LIBRARIES = CACHE / "kotlin/lib"
STDLIB = LIBRARIES / "kotlin-stdlib.jar"
ONNX_RUNTIME = CACHE / "ort"
COMPILE_SECONDS = 400


def need_jvm() -> None:
    """Skip the test with the reason if something is missing."""
    if shutil.which("java") is None:
        pytest.skip("java is missing: apt install openjdk-17-jre-headless")
    for path in (LIBRARIES / "kotlin-compiler.jar", ONNX_RUNTIME / "ai/onnxruntime/OrtSession.class"):
        if not path.is_file():
            pytest.skip(f"{path} is missing: scripts/set_up_jvm.sh")


def compile_kotlin(sources: Sequence[Path], target: Path) -> "subprocess.CompletedProcess[str]":
    """Compile with the official compiler, for which each warning is an error."""
    path = os.pathsep.join(map(str, (STDLIB, ONNX_RUNTIME)))
    compiler = ["java", "-Xmx1g", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", f"{LIBRARIES}/*"]
    options = ["-no-stdlib", "-no-reflect", "-kotlin-home", str(CACHE / "kotlin"), "-jvm-target", "17", "-Werror"]
    command = [*compiler, "org.jetbrains.kotlin.cli.jvm.K2JVMCompiler", *options, "-cp", path, "-d", str(target)]
    return subprocess.run(
        [*command, *map(str, sources)], capture_output=True, text=True, timeout=COMPILE_SECONDS, check=False
    )


def forward_onnx_runtime(folder: Path) -> list[str]:
    """Return options of java with which the binding uses this Python's ONNX Runtime, and set REAL_ORT.

    The binding's own library, 1.17, reads models of IR version 9 at most.
    """
    import onnxruntime

    compiler = shutil.which("gcc") or pytest.skip("gcc is missing, which links the binding to a newer ONNX Runtime")
    real = next((Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so*"))
    natives = ONNX_RUNTIME / "ai/onnxruntime/native/linux-x64"
    if not natives.is_dir() or os.uname().machine != "x86_64":
        pytest.skip("the binding has no library for this processor")
    shutil.copy(natives / "libonnxruntime4j_jni.so", folder)
    (folder / "versions").write_text("VERS_1.17.0 { global: Ort*; local: *; };")
    linking = [f"-Wl,--version-script={folder}/versions", "-Wl,-soname,libonnxruntime.so.1.17.0"]
    source = Path(__file__).with_name("ort_forward.c")
    subprocess.run(
        [compiler, "-shared", "-fPIC", *linking, str(source), "-o", str(folder / "libonnxruntime.so"), "-ldl"],
        check=True,
    )
    os.environ["REAL_ORT"] = str(real)
    return [f"-Donnxruntime.native.path={folder}"]


def make_command(classes: Path, main: str, options: Sequence[str] = ()) -> list[str]:
    return ["java", *options, "-cp", os.pathsep.join(map(str, (classes, STDLIB, ONNX_RUNTIME))), main]
