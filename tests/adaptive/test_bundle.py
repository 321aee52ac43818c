"""Bundles are read with their hashes, and a variant is chosen by what a device has."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edgewright.adaptive.bundle import BUNDLE_FILE, Bundle, Variant, choose_variant, read_bundle
from edgewright.errors import ConfigError
from edgewright.formats.files import hash_file


def make_variant(name: str, tier: str, peak: int | None, folder: Path | None = None) -> Variant:
    sha256 = ""
    if folder is not None:
        (folder / name).write_bytes(name.encode())
        sha256 = hash_file(folder / name)
    return Variant(
        name=name,
        path=name,
        sha256=sha256,
        tier=tier,
        runtime="litert",
        bytes=1,
        p50_us=1.0,
        peak_bytes=peak,
        metric=None,
        run_id=None,
    )


VARIANTS = (make_variant("full", "high", 800), make_variant("mid", "mid", 400), make_variant("lite", "low", 100))


@pytest.mark.parametrize(
    ("memory", "tier", "name"),
    [
        (None, "", "full"),
        (3200, "", "full"),
        (3199, "", "mid"),
        (1000, "", "lite"),
        (10, "", "lite"),
        (None, "mid", "mid"),
        (1000, "mid", "lite"),
        (None, "low", "lite"),
    ],
)
def test_the_fullest_variant_that_fits_is_chosen(memory: int | None, tier: str, name: str) -> None:
    assert choose_variant(VARIANTS, memory, tier).name == name


def write(folder: Path, **changes: Any) -> Path:
    variants = (make_variant("full.tflite", "high", 1, folder), make_variant("lite.tflite", "low", 1, folder))
    bundle = Bundle(variants=variants, task=None, metric=None, measured_on="local")
    plain = json.loads(msgspec.json.encode(bundle)) | changes
    (folder / BUNDLE_FILE).write_text(json.dumps(plain))
    return folder


def test_a_bundle_is_read_and_a_changed_file_is_found(tmp_path: Path) -> None:
    assert [one.tier for one in read_bundle(write(tmp_path)).variants] == ["high", "low"]
    (tmp_path / "lite.tflite").write_bytes(b"changed")
    with pytest.raises(ConfigError, match=r"lite.tflite was changed"):
        read_bundle(tmp_path)
    assert len(read_bundle(tmp_path, check=False).variants) == 2
    (tmp_path / "lite.tflite").unlink()
    with pytest.raises(ConfigError, match="cannot be read"):
        read_bundle(tmp_path)


@pytest.mark.parametrize("changes", [{"schema": "edgewright.bundle/2"}, {"variants": []}, {"variants": 3}])
def test_files_that_are_no_bundle(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="bundle"):
        read_bundle(write(tmp_path, **changes))


def test_a_bundle_does_not_lead_out_of_its_folder(tmp_path: Path) -> None:
    plain = json.loads((write(tmp_path) / BUNDLE_FILE).read_text())
    for path in ("../full.tflite", "/etc/passwd"):
        plain["variants"][0]["path"] = path
        (tmp_path / BUNDLE_FILE).write_text(json.dumps(plain))
        with pytest.raises(ConfigError, match="is outside"):
            read_bundle(tmp_path)
