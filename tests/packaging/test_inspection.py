"""`package check`: folders, APKs and libraries that are right, and those that break in an app."""

import json
import shutil
import struct
import zipfile
from hashlib import sha256
from pathlib import Path

import msgspec
import pytest

from edgewright.errors import GateFailed, UsageError
from edgewright.flows.package_checks import check_project
from edgewright.packaging.contract import AppContract, AppEngine, AppModel, AppTensor
from edgewright.packaging.golden import GoldenManifest, GoldenSample, GoldenTensor
from edgewright.packaging.inspection.android_manifest import parse_android_manifest
from edgewright.packaging.inspection.elf import parse_library
from edgewright.packaging.project import write_project
from edgewright.tasks.spec.task import Classification

MODEL = b"the model"


def make_library(align: int = 16384, *, level: int = 0, bits: int = 64, machine: int = 183) -> bytes:
    """Return an ELF file with one loaded segment, and with a note of Android's API level."""
    note = struct.pack("<III8sI", 8, 4, 1, b"Android\0", level)
    if bits == 64:
        head = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 3, machine, 1, 0, 64, 0, 0, 64, 56, 2, 0, 0, 0)
        load = struct.pack("<IIQQQQQQ", 1, 5, 0, 0, 0, 176, 176, align)
        return head + load + struct.pack("<IIQQQQQQ", 4, 4, 176, 0, 0, len(note), len(note), 4) + note
    head = struct.pack("<16sHHIIIIIHHHHHH", b"\x7fELF\x01\x01\x01", 3, machine, 1, 0, 52, 0, 0, 52, 32, 2, 0, 0, 0)
    load = struct.pack("<IIIIIIII", 1, 0, 0, 0, 116, 116, 5, align)
    return head + load + struct.pack("<IIIIIIII", 4, 116, 0, 0, len(note), len(note), 4, 4) + note


def make_manifest(level: int, *permissions: str) -> bytes:
    """Return a manifest in Android's binary form."""
    strings = ["minSdkVersion", "name", "uses-sdk", "uses-permission", *permissions]
    encoded = [bytes((len(one), len(one))) + one.encode() + b"\0" for one in strings]
    starts = [sum(map(len, encoded[:i])) for i in range(len(encoded))]
    body = b"".join(encoded) + b"\0" * (-sum(map(len, encoded)) % 4)
    begin = 28 + 4 * len(strings)
    pool = struct.pack("<HHIIIIII", 1, 28, begin + len(body), len(strings), 0, 1 << 8, begin, 0)
    pool += struct.pack(f"<{len(strings)}I", *starts) + body

    def element(name: int, key: int, text: int, kind: int, value: int) -> bytes:
        attribute = struct.pack("<IIiHBBI", 0xFFFFFFFF, key, text, 8, 0, kind, value)
        return (
            struct.pack("<HHIIIIIHHHHHH", 0x0102, 16, 56, 1, 0xFFFFFFFF, 0xFFFFFFFF, name, 20, 20, 1, 0, 0, 0)
            + attribute
        )

    elements = element(2, 0, -1, 0x10, level)
    elements += b"".join(element(3, 1, 4 + i, 3, 4 + i) for i in range(len(permissions)))
    return struct.pack("<HHI", 3, 8, 8 + len(pool) + len(elements)) + pool + elements


def list_project() -> dict[str, bytes]:
    """Return the files that every project has."""
    digest = sha256(MODEL).hexdigest()
    tensor = AppTensor(
        name="x", source="x", shape=(2,), dtype="float32", source_shape=(2,), source_dtype="float32", axes=(0,)
    )
    contract = AppContract(
        name="n", identifier="n", app_id="com.example.n", engine=AppEngine(), inputs=(), outputs=(tensor,), labels=(),
        model=AppModel(
            main="m.tflite", files={"m.tflite": digest}, sha256=digest, bytes=9, runtime="litert", format="tflite",
            precision="fp32",
        ),
        answer=Classification(name="x"), first_pass="columns", version="0",
    )  # fmt: skip
    sample = GoldenSample(picture="p", width=1, height=1, channels=1, inputs={"x": "i"}, outputs={"y": "o"})
    kinds = {name: {name: GoldenTensor(shape=(2,), dtype="float32")} for name in "xy"}
    golden = GoldenManifest(
        artifact="m.tflite", sha256=digest, runtime="litert", source="generated", inputs=kinds["x"],
        outputs=kinds["y"], tolerance={"y": 0.1}, samples=(sample,),
    )  # fmt: skip
    return {
        "edgewright-app.json": msgspec.json.encode(contract),
        "model/m.tflite": MODEL,
        "golden/manifest.json": msgspec.json.encode(golden),
        "golden/p": b"1",
        "golden/i": b"12345678",
        "golden/o": b"12345678",
    }


def check(path: Path) -> dict[str, str]:
    report, error = check_project(str(path))
    states: dict[str, str] = {one.code: one.state for one in report.checks}
    assert isinstance(error, GateFailed) == ("failed" in states.values())
    return states


def write_folder(folder: Path, files: dict[str, bytes]) -> Path:
    write_project(folder, "native", files, None)
    return folder


def write_apk(path: Path, files: dict[str, bytes], *, compressed: tuple[str, ...] = (), page: int = 16384) -> Path:
    """Write an archive in which stored files begin at multiples of a page."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED if name in compressed else zipfile.ZIP_STORED
            at = archive.fp.tell() + 30 + len(name)  # type: ignore[union-attr]
            info.extra = b"\0" * (-at % page) if name not in compressed else b""
            archive.writestr(info, data)
    return path


ANDROID = {
    "AndroidManifest.xml": make_manifest(26, "android.permission.CAMERA"),
    "lib/arm64-v8a/libLiteRt.so": make_library(level=26),
    "lib/x86_64/libLiteRt.so": make_library(level=26, machine=62),
    "assets/LICENSE": b"Apache-2.0",
}
ASSETS = {f"assets/{name}": data for name, data in list_project().items()}


def test_a_project_passes_and_a_device_result_is_counted(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, list_project())
    assert check(folder) == {
        "page-alignment": "not applicable", "model-compressed": "not applicable", "min-sdk": "not applicable",
        "abi-missing": "not applicable", "duplicate-runtime": "not applicable", "license": "ok",
        "permission": "not applicable", "golden": "warning", "model-hash": "ok",
    }  # fmt: skip
    result = folder / "golden/result-board.json"
    result.write_text(json.dumps({"equal": True, "max_abs": 0.0, "sha256": sha256(MODEL).hexdigest()}))
    assert check(folder)["golden"] == "ok"
    result.write_text(json.dumps({"equal": True, "sha256": "of another artifact"}))
    assert check(folder)["golden"] == "warning"
    result.write_text('{"chosen": "wasm"}')
    assert check(folder)["golden"] == "ok"
    result.write_text('{"chosen": null}')
    assert check(folder)["golden"] == "failed"
    result.write_text('{"equal": false}')
    assert check(folder)["golden"] == "failed"


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("model/m.tflite", b"another", "model-hash"),
        ("model/m.tflite", None, "model-hash"),
        ("edgewright-app.json", None, "model-hash"),
        ("edgewright-app.json", b"{}", "model-hash"),
        ("golden/manifest.json", None, "golden"),
        ("golden/manifest.json", b"\xff", "golden"),
        ("golden/o", None, "golden"),
        ("golden/p", b"12", "golden"),
        ("lib.so.1", make_library(4096), "page-alignment"),
        ("app/src/main/jniLibs/x86_64/libx.so", make_library(4096, machine=62), "page-alignment"),
        ("app/src/main/jniLibs/armeabi-v7a/libx.so", make_library(4096, bits=32), "abi-missing"),
    ],
)
def test_what_is_missing_or_changed_fails(tmp_path: Path, name: str, content: bytes | None, code: str) -> None:
    folder = write_folder(tmp_path, list_project())
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    assert check(folder)[code] == "failed"


def test_an_apk_passes_and_its_size_is_split(tmp_path: Path) -> None:
    apk = write_apk(tmp_path / "a.apk", ANDROID | ASSETS | {"classes.dex": b"dex" * 99}, compressed=("classes.dex",))
    states = check(apk)
    assert {code for code, state in states.items() if state != "ok"} == {"golden"}
    parts = {(one.part, one.abi): one for one in check_project(str(apk))[0].sizes}
    assert parts["libraries", "arm64-v8a"].bytes == len(ANDROID["lib/arm64-v8a/libLiteRt.so"])
    assert parts["model", ""].stored == len(MODEL)
    assert parts["code", ""].stored < parts["code", ""].bytes == 297


@pytest.mark.parametrize(
    ("changes", "code", "state"),
    [
        ({"lib/arm64-v8a/libLiteRt.so": make_library(4096)}, "page-alignment", "failed"),
        ({"lib/armeabi-v7a/libLiteRt.so": make_library(4096, bits=32, machine=40)}, "page-alignment", "warning"),
        ({"lib/x86_64/libLiteRt.so": None}, "abi-missing", "ok"),
        ({"lib/arm64-v8a/libLiteRt.so": None}, "abi-missing", "failed"),
        ({"lib/arm64-v8a/libc++_shared.so": make_library()}, "abi-missing", "failed"),
        ({"lib/arm64-v8a/libLiteRt.so": make_library(level=29)}, "min-sdk", "failed"),
        ({"AndroidManifest.xml": b"damaged"}, "min-sdk", "warning"),
        ({"lib/arm64-v8a/libtensorflowlite_jni.so": make_library()}, "duplicate-runtime", "failed"),
        ({"lib/arm64-v8a/libcopy.so": make_library(level=26)}, "duplicate-runtime", "failed"),
        ({"lib/arm64-v8a/libncnn.so": make_library(level=21)}, "duplicate-runtime", "warning"),
        ({"assets/LICENSE": None}, "license", "warning"),
        ({"AndroidManifest.xml": make_manifest(26, "android.permission.INTERNET")}, "permission", "warning"),
        ({"assets/model/m.tflite": b"another"}, "model-hash", "failed"),
    ],
)
def test_what_breaks_in_an_apk(tmp_path: Path, changes: dict[str, bytes | None], code: str, state: str) -> None:
    files = {name: data for name, data in (ANDROID | ASSETS | changes).items() if data is not None}
    assert check(write_apk(tmp_path / "a.apk", files))[code] == state


def test_a_compressed_model_and_a_library_at_the_wrong_place(tmp_path: Path) -> None:
    files = ANDROID | ASSETS
    assert (
        check(write_apk(tmp_path / "a.apk", files, compressed=("assets/model/m.tflite",)))["model-compressed"]
        == "failed"
    )
    assert check(write_apk(tmp_path / "b.apk", files, page=4))["page-alignment"] == "failed"


def test_a_project_of_gradle(tmp_path: Path) -> None:
    build = b'android {\n defaultConfig { minSdk = 26 }\n androidResources { noCompress += listOf("tflite") }\n}\n'
    manifest = b'<manifest><uses-permission android:name="android.permission.CAMERA"/></manifest>'
    files = {"app/build.gradle.kts": build, "app/src/main/AndroidManifest.xml": manifest}
    states = check(write_folder(tmp_path / "a", list_project() | files))
    assert (states["model-compressed"], states["min-sdk"], states["permission"]) == ("ok", "ok", "ok")
    files["app/build.gradle.kts"] = b"android {}"
    states = check(write_folder(tmp_path / "b", list_project() | files))
    assert (states["model-compressed"], states["min-sdk"]) == ("failed", "warning")


def test_what_is_no_project(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"no archive")
    for path in (tmp_path / "none", tmp_path / "file"):
        with pytest.raises(UsageError):
            check_project(str(path))
    assert (
        check(shutil.copytree(tmp_path, tmp_path / "empty", ignore=lambda *_: ["file", "empty"]))["golden"] == "failed"
    )


def test_damaged_libraries_and_manifests() -> None:
    library, manifest = make_library(level=30), make_manifest(26, "android.permission.CAMERA")
    assert parse_library(library) == (183, 64, 16384, 30)
    assert parse_library(make_library(4096, bits=32, machine=40)) == (40, 32, 4096, 0)
    assert parse_android_manifest(manifest) == (26, ("android.permission.CAMERA",))
    for size in range(0, len(library), 7):
        parse_library(library[:size])
    for size in range(0, len(manifest), 3):
        parse_android_manifest(manifest[:size])
    assert parse_library(b"#!/bin/sh") is None
