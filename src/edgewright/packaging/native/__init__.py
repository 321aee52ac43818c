"""The target `native`: a C++17 project with CMake for Linux boards and computers.

`project/` has the files that are the same in every project; `parameters` writes those of one model. The preprocessing
core is a copy of the pair `edgewright_preprocess` of `kernels/native`.
"""

import shlex
from importlib.util import find_spec
from pathlib import Path

from edgewright.errors import ConfigError, UsageError
from edgewright.kernels.sources import NATIVE
from edgewright.packaging.contract import AppContract
from edgewright.packaging.golden import GoldenVectors
from edgewright.packaging.native.parameters import write_cmake, write_parameters
from edgewright.packaging.targets import TargetFiles

_FILES = Path(__file__).parent / "project"
_SOURCES = (
    "src/app.hpp", "src/preprocess.cpp", "src/tensors.cpp", "src/answer.cpp", "src/json.hpp", "src/golden.cpp",
    "src/camera.hpp", "src/camera.cpp", "src/main.cpp", "CMakeLists.txt",
)  # fmt: skip
# Title, the header of its C interface, the module with its library in Python's environment, and the library's name.
_RUNTIMES = {
    "onnxruntime": ("ONNX Runtime", "onnxruntime_c.h", "onnxruntime", "capi/libonnxruntime.so*"),
    "litert": ("LiteRT", "litert_c.h", "ai_edge_litert", "libLiteRt.so"),
    "ncnn": ("ncnn", "ncnn_c.h", "", "libncnn.so"),
}
# Options of a measured run that the engine does not have, and the value with which they change nothing.
_OPTIONS = {
    "provider": ("cpu", "cpuexecutionprovider"),
    "delegate": ("xnnpack",),
    "vulkan": ("off",),
    "storage": ("auto",),
    "winograd": ("on",),
    "weights": ("copied",),
}


def check(contract: AppContract) -> None:
    """Raise UsageError for an option of the runtime, and ConfigError for a type, that the project does not have."""
    for name, values in _OPTIONS.items():
        if (value := contract.engine.options.get(name, values[0])).lower() not in values:
            why = f"the native project runs on the CPU, with {name}={values[0]}"
            raise UsageError(f"-p {name}={value} is not possible", why, f"-p {name}={values[0]}")
    for one in (*(one.tensor for one in contract.inputs), *contract.outputs):
        changed = one.dtype == "float16" and one.source_dtype != "float16" and one not in contract.outputs
        if changed or one.dtype in ("bfloat16", "str"):
            why = f"{one.name!r} is {one.dtype} in the artifact, {one.source_dtype} in the source"
            raise ConfigError("the native project has no such type", why, "compile the model with float32 inputs")


def generate(contract: AppContract, golden: GoldenVectors) -> TargetFiles:
    """Return the project's files."""
    runtime = contract.model.runtime
    title, header, _, library = _RUNTIMES[runtime]
    found = _find_library(runtime)
    words = {
        "TITLE": contract.name.replace("\n", " "),
        "NAME": contract.identifier,
        "MODEL": contract.model.main,
        "MODEL_PATH": shlex.quote(f"model/{contract.model.main}"),
        "UNIT_PATH": contract.model.main.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%"),
        "UNIT_TITLE": contract.name.replace("\n", " ").replace("%", "%%"),
        "RUNTIME": title,
        "ENGINE": runtime,
        "LIBNAME": library.rstrip("*"),
        "LIBRARY": _describe_library(title, is_found=found is not None),
        "THREADS": "1 thread" if contract.engine.threads == 1 else f"{contract.engine.threads} threads",
        "SAMPLES": str(len(golden.manifest.samples)),
    }
    engine = (f"src/engine_{runtime}.cpp", f"runtime/{header}")
    files: dict[str, bytes | Path] = {name: _FILES / name for name in (*_SOURCES, *engine)}
    files |= {
        "include/edgewright_preprocess.h": NATIVE / "edgewright_preprocess.h",
        "src/edgewright_preprocess.c": NATIVE / "edgewright_preprocess.c",
        "src/parameters.hpp": write_parameters(contract).encode(),
        "parameters.cmake": write_cmake(contract).encode(),
        ".gitignore": _FILES / "gitignore",
        "README.md": _fill("README.md", words),
        f"{contract.identifier}.service": _fill("app.service", words),
    }
    notes = [] if found else [f"{title}'s library is not in this environment: configure with -DRUNTIME_LIB=FILE"]
    local = (
        {"local.cmake": f'set(RUNTIME_LIB [==[{found.as_posix()}]==] CACHE FILEPATH "")\n'.encode()} if found else {}
    )
    return TargetFiles(files, local, tuple(notes))


def _find_library(runtime: str) -> Path | None:
    """Return the runtime's library with a C interface in this Python environment; None without one."""
    _, _, module, pattern = _RUNTIMES[runtime]
    spec = find_spec(module) if module else None
    folders = [] if spec is None else list(spec.submodule_search_locations or ())
    return next((path for folder in folders for path in sorted(Path(folder).glob(pattern)) if path.is_file()), None)


def _describe_library(title: str, *, is_found: bool) -> str:
    if is_found:
        return (
            f"`local.cmake` names the library of {title} in the Python environment that generated the\n"
            "project; it is not under version control. `-DRUNTIME_LIB=FILE` gives another one."
        )
    return (
        f"The Python package of {title} has no C interface. Configure with `-DRUNTIME_LIB=FILE`: a library that\n"
        "is built from its sources, shared or static."
    )


def _fill(name: str, words: dict[str, str]) -> bytes:
    """Return a file in which each `@WORD@` is replaced."""
    text = (_FILES / name).read_text(encoding="utf-8")
    for word, value in words.items():
        text = text.replace(f"@{word}@", value)
    return text.encode()
