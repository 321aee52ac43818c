"""The checks of a project, an APK or an AAB: what breaks in an app and can be seen without a device."""

from collections.abc import Callable, Iterator
from math import prod
from typing import Literal, TypeVar

import msgspec
import numpy as np
from msgspec import Struct

from edgewright.packaging.contract import CONTRACT_FILE, AppContract
from edgewright.packaging.golden import GOLDEN_FILE, GOLDEN_FOLDER, GoldenManifest
from edgewright.packaging.inspection.android_manifest import AndroidManifest, parse_android_manifest
from edgewright.packaging.inspection.elf import AARCH64, SharedLibrary, parse_library
from edgewright.packaging.inspection.files import Package, PackagedFile
from edgewright.packaging.inspection.gradle import find_min_sdk, is_stored

_Record = TypeVar("_Record")
State = Literal["ok", "warning", "failed", "not applicable"]
PAGE = 16384
MODEL_FOLDER = "model"
MODEL_SUFFIXES = (".tflite", ".onnx", ".ort", ".param", ".bin", ".mnn", ".pte")
RUNTIME_LIBRARIES = {
    "onnxruntime": ("libonnxruntime.so",),
    "litert": ("libLiteRt.so", "libtensorflowlite_jni.so", "libtensorflowlite_c.so", "libtensorflowlite.so"),
    "ncnn": ("libncnn.so",),
    "mnn": ("libMNN.so",),
    "executorch": ("libexecutorch.so", "libexecutorch_jni.so"),
}
LICENSES = {
    "onnxruntime": "MIT",
    "litert": "Apache-2.0",
    "ncnn": "BSD-3-Clause",
    "mnn": "Apache-2.0",
    "executorch": "BSD",
}
LICENSE_NAMES = ("license", "licence", "notice", "third_party", "third-party", "thirdparty")
USUAL_PERMISSIONS = ("android.permission.CAMERA",)
RESULTS = "result"  # beginning of the names of device results in golden/
NOT_ANDROID = "there are no files of Android"


class PackageCheck(Struct, frozen=True, kw_only=True):
    """The result of one check."""

    code: str
    state: State
    text: str


class DeviceResult(Struct, frozen=True, kw_only=True):
    """What the golden vectors' program prints on a device, or a self-test saves.

    Attributes:
        equal: None in a self-test.
        chosen: of a self-test: the unit that is used; None if none is equal.
    """

    equal: bool | None = None
    chosen: str | None = None
    sha256: str = ""

    @property
    def passes(self) -> bool:
        return bool(self.chosen) if self.equal is None else self.equal


class PackagePart(Struct, frozen=True, kw_only=True):
    """Size of one part: `model`, `golden`, `libraries` (by ABI), `code`, `other`.

    Attributes:
        stored: bytes in the archive, after compression.
    """

    part: str
    abi: str
    bytes: int
    stored: int


def check_package(package: Package) -> tuple[PackageCheck, ...]:
    """Return the result of each check, in a fixed order."""
    found = []
    for code, check in CHECKS.items():
        state, text = check(package)
        found.append(PackageCheck(code=code, state=state, text=text))
    return tuple(found)


Result = tuple[State, str]


def _check_alignment(package: Package) -> Result:
    wrong: list[str] = []
    old: list[str] = []
    count = 0
    for file, library in _parse_libraries(package):
        if not (file.abi or library.machine == AARCH64):
            continue
        count += 1
        if library.alignment % PAGE or not library.alignment:
            (wrong if library.bits == 64 else old).append(
                f"{file.name} has segments aligned to {library.alignment} bytes"
            )
        elif package.kind == "apk" and library.bits == 64 and not file.is_compressed and file.offset % PAGE:
            wrong.append(f"{file.name} begins at {file.offset} in the APK: zipalign -P 16")
    if not count:
        return "not applicable", "there are no shared libraries for Arm or Android"
    if wrong:
        return "failed", f"a device with 16 KB pages does not load them: {'; '.join(wrong)}"
    if old:
        return "warning", f"32 bits, so devices with 16 KB pages do not load them either way: {'; '.join(old)}"
    return "ok", f"{count} libraries are aligned to 16 KB or more"


def _parse_libraries(package: Package) -> Iterator[tuple[PackagedFile, SharedLibrary]]:
    for file in package.files.values():
        name = file.name.rpartition("/")[2]
        if (name.endswith(".so") or ".so." in name) and (library := parse_library(package.read(file.name))):
            yield file, library


def _check_compression(package: Package) -> Result:
    models = [one for one in package.files.values() if _is_model(one.name)]
    if package.kind == "apk":
        if not models:
            return "not applicable", "there is no model in it"
        if wrong := [one.name for one in models if one.is_compressed]:
            return "failed", f"it is compressed, so it cannot be mapped into memory: {', '.join(wrong)}"
        return "ok", f"{len(models)} files of models are stored as they are"
    if not models or not _is_android(package):
        return "not applicable", NOT_ANDROID
    suffixes = sorted({f".{one.name.rpartition('.')[2]}" for one in models})
    wrong = [one for one in suffixes if not is_stored(package, one.removeprefix("."))]
    if wrong:
        return "failed", f"the build compresses {', '.join(wrong)}: add it to androidResources.noCompress"
    return "ok", f"the build does not compress {', '.join(suffixes)}"


def _is_model(name: str) -> bool:
    return (
        name.endswith(MODEL_SUFFIXES)
        and f"{GOLDEN_FOLDER}/" not in name
        and (f"{MODEL_FOLDER}/" in name or "assets/" in name)
    )


def _is_android(package: Package) -> bool:
    return package.kind != "folder" or any(name.endswith("AndroidManifest.xml") for name in package.files)


def _check_min_sdk(package: Package) -> Result:
    if not _is_android(package):
        return "not applicable", NOT_ANDROID
    levels = [level for one in _read_manifests(package) if (level := one.min_sdk) is not None]
    level = min(levels, default=find_min_sdk(package))
    if level is None:
        return "warning", "the smallest API level (minSdk) is not found"
    newer = [
        f"{file.name} is built for API level {library.api_level}"
        for file, library in _parse_libraries(package)
        if library.api_level > level
    ]
    if newer:
        return "failed", f"minSdk is {level}, but {'; '.join(newer)}"
    return "ok", f"minSdk is {level}, and no library requires more"


def _read_manifests(package: Package) -> list[AndroidManifest]:
    names = [name for name in package.files if name.rpartition("/")[2] == "AndroidManifest.xml"]
    return [parse_android_manifest(package.read(name)) for name in names]


def _check_abis(package: Package) -> Result:
    by_abi: dict[str, set[str]] = {}
    for one in package.list_libraries():
        by_abi.setdefault(one.abi, set()).add(one.name.rpartition("/")[2])
    if not by_abi:
        return "not applicable", "there are no shared libraries for Android"
    every = set().union(*by_abi.values())
    missing = [f"{name} for {abi}" for abi, names in sorted(by_abi.items()) for name in sorted(every - names)]
    if missing:
        return "failed", f"the app ends where they are loaded: {', '.join(missing)}"
    if "arm64-v8a" not in by_abi:
        return "failed", f"phones need arm64-v8a; there is {', '.join(sorted(by_abi))}"
    return "ok", f"{len(every)} libraries for {', '.join(sorted(by_abi))}"


def _check_runtimes(package: Package) -> Result:
    libraries = package.list_libraries()
    if not libraries:
        return "not applicable", "there are no shared libraries for Android"
    twice, families = [], set()
    for abi in {one.abi for one in libraries}:
        own = [one for one in libraries if one.abi == abi]
        for runtime, names in RUNTIME_LIBRARIES.items():
            copies = [one.name for one in own if one.name.rpartition("/")[2] in names]
            families |= {runtime} if copies else set()
            if len(copies) > 1:
                twice.append(" and ".join(copies))
        twice += _find_copies(package, own)
    if twice:
        return "failed", f"one of them is loaded in place of the other: {'; '.join(sorted(set(twice)))}"
    if len(families) > 1:
        return "warning", f"there are several runtimes: {', '.join(sorted(families))}"
    return "ok", f"one runtime: {', '.join(families)}" if families else "no runtime is in it twice"


def _find_copies(package: Package, libraries: list[PackagedFile]) -> list[str]:
    """Return the names of libraries of one ABI that have the same content or the same name."""
    seen: dict[str, str] = {}
    found = [
        f"{other} and {one.name}"
        for one in libraries
        for key in (package.hash(one.name), one.name.rpartition("/")[2])
        if (other := seen.setdefault(key, one.name)) != one.name
    ]
    return list(dict.fromkeys(found))


def _check_licenses(package: Package) -> Result:
    own = [one for one in package.files.values() if ".so" in one.name or one.name.endswith((".wasm", ".aar", ".a"))]
    runtimes = sorted(
        {
            name
            for name, names in RUNTIME_LIBRARIES.items()
            for one in own
            if any(one.name.rpartition("/")[2].startswith(known) for known in names)
        }
    )
    if not own:
        return "ok", "no library of others is in it"
    texts = [name for name in package.files if name.rpartition("/")[2].lower().startswith(LICENSE_NAMES)]
    if texts:
        return "ok", f"license texts: {', '.join(sorted(texts)[:5])}"
    named = ", ".join(f"{name} ({LICENSES[name]})" for name in runtimes) or f"{len(own)} libraries"
    return "warning", f"there is no license text, but {named}: ship their licenses"


def _check_permissions(package: Package) -> Result:
    if not _is_android(package):
        return "not applicable", NOT_ANDROID
    found = sorted({name for one in _read_manifests(package) for name in one.permissions})
    if unusual := [one for one in found if one not in USUAL_PERMISSIONS]:
        return "warning", f"the user is asked for, or the store shows: {', '.join(unusual)}"
    return "ok", ", ".join(found) or "it asks for no permission"


def _check_golden(package: Package) -> Result:
    contract, manifest = _read_contract(package), _read_golden(package)
    if manifest is None:
        return "failed", f"there is no {GOLDEN_FOLDER}/{GOLDEN_FILE} that can be read"
    if problem := _find_golden_problem(package, manifest):
        return "failed", problem
    if contract is not None and manifest.sha256 != contract.model.sha256:
        return "failed", "the golden vectors are of another artifact: run edgewright package again"
    results = [_read_result(package, name) for name in package.files if name.startswith(_results(package))]
    known = [one for one in results if one and one.sha256 in ("", manifest.sha256)]
    if not all(one.passes for one in known):
        return "failed", "on a device the results are not equal"
    count = len(manifest.samples)
    if not known:
        where = f"{GOLDEN_FOLDER}/{RESULTS}-DEVICE.json"
        return "warning", f"{count} samples are complete, but no device has run them: put its line into {where}"
    return "ok", f"{count} samples, equal on {len(known)} devices"


def _results(package: Package) -> str:
    return f"{package.root}{GOLDEN_FOLDER}/{RESULTS}"


def _find_golden_problem(package: Package, manifest: GoldenManifest) -> str:
    """Return what is wrong with the files of the golden vectors; empty if they are complete."""
    if not manifest.samples:
        return "there are no samples"
    for sample in manifest.samples:
        sizes = {sample.picture: sample.width * sample.height * sample.channels} if sample.picture else {}
        for files, tensors in ((sample.inputs, manifest.inputs), (sample.outputs, manifest.outputs)):
            if files.keys() != tensors.keys():
                return f"a sample has the tensors {', '.join(files)}, not {', '.join(tensors)}"
            for name, file in files.items():
                try:
                    sizes[file] = prod(tensors[name].shape) * np.dtype(tensors[name].dtype).itemsize
                except TypeError:
                    return f"{name} has an unknown type: {tensors[name].dtype[:40]}"
        for file, size in sizes.items():
            found = package.files.get(f"{package.root}{GOLDEN_FOLDER}/{file}")
            if found is None or found.bytes != size:
                return (
                    f"{GOLDEN_FOLDER}/{file} is missing"
                    if found is None
                    else f"{file} has {found.bytes} bytes, not {size}"
                )
    return ""


def _check_model(package: Package) -> Result:
    contract = _read_contract(package)
    if contract is None:
        return "failed", f"there is no {CONTRACT_FILE} that can be read"
    for name, wanted in contract.model.files.items():
        path = f"{package.root}{MODEL_FOLDER}/{name}"
        if path not in package.files:
            return "failed", f"{path} is missing"
        if package.hash(path) != wanted:
            return "failed", f"{path} has changed since the project was generated: run edgewright package again"
    return "ok", f"{contract.model.main} has the hash of the artifact"


def _read_contract(package: Package) -> AppContract | None:
    return _read(package, CONTRACT_FILE, AppContract)


def _read_golden(package: Package) -> GoldenManifest | None:
    return _read(package, f"{GOLDEN_FOLDER}/{GOLDEN_FILE}", GoldenManifest)


def _read_result(package: Package, name: str) -> DeviceResult | None:
    return _read(package, name.removeprefix(package.root), DeviceResult)


def _read(package: Package, name: str, kind: type[_Record]) -> _Record | None:
    """Return a JSON file below the root; None if it is missing or not valid."""
    if (path := package.root + name) not in package.files:
        return None
    try:
        return msgspec.json.decode(package.read(path), type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


CHECKS: dict[str, Callable[[Package], Result]] = {
    "page-alignment": _check_alignment,
    "model-compressed": _check_compression,
    "min-sdk": _check_min_sdk,
    "abi-missing": _check_abis,
    "duplicate-runtime": _check_runtimes,
    "license": _check_licenses,
    "permission": _check_permissions,
    "golden": _check_golden,
    "model-hash": _check_model,
}


def measure_parts(package: Package) -> tuple[PackagePart, ...]:
    """Return the size of each part and ABI, the largest first."""
    sums: dict[tuple[str, str], list[int]] = {}
    for one in package.files.values():
        total = sums.setdefault((_find_part(package, one), one.abi), [0, 0])
        total[0] += one.bytes
        total[1] += one.stored
    parts = [PackagePart(part=part, abi=abi, bytes=own[0], stored=own[1]) for (part, abi), own in sums.items()]
    return tuple(sorted(parts, key=lambda one: (-one.stored, one.part, one.abi)))


def _find_part(package: Package, file: PackagedFile) -> str:
    inside = file.name.removeprefix(package.root)
    if file.abi or file.name.endswith((".so", ".wasm")):
        return "libraries"
    if inside.startswith((f"{MODEL_FOLDER}/", f"{GOLDEN_FOLDER}/")):
        return inside.partition("/")[0]
    return "code" if file.name.endswith((".dex", ".kt", ".swift", ".cpp", ".c", ".hpp", ".h", ".js")) else "other"
