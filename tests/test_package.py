"""The wheel: small, typed, and with everything that the product reads."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.paths import ROOT

MOST_BYTES = 2_400_000  # docs/decisions/0015-the-size-of-the-wheel.md


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


def test_wheel_stays_small(wheel: Path) -> None:
    assert wheel.stat().st_size < MOST_BYTES


def test_wheel_has_what_the_product_reads(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert "edgewright/py.typed" in names
    assert {f"edgewright/flows/digits/{name}" for name in ("digits.onnx", "calib.npz", "heldout.npz")} <= names
    assert any(name.startswith("edgewright/store/migrations/versions/") for name in names)


def test_wheel_has_no_tests_and_no_caches(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert not [name for name in names if "__pycache__" in name or name.startswith("tests/")]
