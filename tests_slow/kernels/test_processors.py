"""The kernels on other processors, under QEMU user mode (a stand-in: results, no times), and with sanitizers here.

`make test-kernels` sets up QEMU. The same program prints a hash of each kernel at each level: all must be equal, on x86
and on three Arm processors, and the core must equal the reference in every case of a file.
"""

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from edgewright.kernels.checks import preprocessing
from edgewright.kernels.library import get_levels, list_usable
from edgewright.kernels.preprocessing import make_parameters
from edgewright.kernels.sources import NATIVE, SOURCES

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("kernels")]
QEMU = Path("~/.cache/edgewright-tests/qemu/usr/bin/qemu-aarch64").expanduser()
CROSS = "aarch64-linux-gnu-gcc"
CASES = 150
FLAGS = ("-std=gnu11", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-Wall", "-Werror")
SANITIZED = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
# Processor → level: NEON; with dot products; with int8 matrix products.
PROCESSORS = {"cortex-a53": 1, "cortex-a55": 2, "cortex-a710": 3}


def build(compiler: str, target: Path, flags: Sequence[str]) -> Path:
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    sources = [Path(__file__).with_name("harness.c"), *(NATIVE / name for name in SOURCES)]
    command = [compiler, *FLAGS, *flags, f"-I{NATIVE}", *map(str, sources), "-o", str(target), "-lm"]
    subprocess.run(command, check=True)
    return target


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random frames and tasks with the reference's results, of each rule and type."""
    path = tmp_path_factory.mktemp("cases") / "cases.bin"
    written = seed = 0
    with path.open("wb") as file:
        while written < CASES:
            rng = np.random.default_rng((27, seed := seed + 1))
            spec = preprocessing.make_image_input(rng)
            case = preprocessing._make_case(rng, spec)
            want = preprocessing.compute_reference(case, spec)
            if want is None:
                continue
            file.write(bytes(make_parameters(spec)) + np.array(case.rgb.shape[:2], np.int32).tobytes())
            file.write(np.ascontiguousarray(case.rgb).tobytes() + want.tobytes())
            written += 1
    return path


def read_hashes(command: Sequence[str]) -> tuple[int, dict[str, set[str]]]:
    """Return the best level, and the hashes of each kernel at all levels."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout[-500:] + done.stderr
    rows = [line.split() for line in done.stdout.splitlines()]
    assert f"cases {CASES}" in done.stdout
    hashes: dict[str, set[str]] = {}
    for name, _, value in (row for row in rows if len(row) == 3):
        hashes.setdefault(name, set()).add(value)
    return int(rows[0][1]), hashes


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory, cases: Path) -> dict[str, set[str]]:
    program = build("gcc", tmp_path_factory.mktemp("here") / "harness", ["-O3"])
    best, hashes = read_hashes([str(program), str(cases)])
    assert get_levels()[best] == list_usable()[-1]
    return hashes


def test_all_levels_here_are_equal(here: dict[str, set[str]]) -> None:
    assert len(here) > 15
    assert {name: len(values) for name, values in here.items()} == dict.fromkeys(here, 1)


@pytest.mark.parametrize("processor", PROCESSORS)
def test_arm(processor: str, here: dict[str, set[str]], cases: Path, tmp_path: Path) -> None:
    """The right dispatch, and the same bits as on this machine."""
    if not QEMU.is_file():
        pytest.skip("QEMU is not set up: make test-kernels")
    program = build(CROSS, tmp_path / "harness", ["-O3", "-static"])
    best, hashes = read_hashes([str(QEMU), "-cpu", processor, str(program), str(cases)])
    assert best == PROCESSORS[processor]
    assert hashes == here


def test_sanitizers(cases: Path, tmp_path: Path) -> None:
    """No access outside of buffers that end where the memory ends, and no undefined behavior."""
    read_hashes([str(build("gcc", tmp_path / "harness", SANITIZED)), str(cases)])


@pytest.mark.parametrize("compiler", ["g++", "clang++"])
def test_the_core_is_callable_from_cpp(compiler: str, tmp_path: Path) -> None:
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    source = tmp_path / "one.cpp"
    source.write_text('#include "edgewright_preprocess.h"\nint main() { return ewp_output_bytes(nullptr) != 0; }\n')
    core = tmp_path / "core.o"
    strict = ["-std=c11", "-O2", "-Wall", "-Wextra", "-Werror"]
    subprocess.run(["gcc", *strict, "-c", str(NATIVE / "edgewright_preprocess.c"), "-o", str(core)], check=True)
    subprocess.run([compiler, f"-I{NATIVE}", source, core, "-o", tmp_path / "one", "-lm"], check=True)
    subprocess.run([tmp_path / "one"], check=True)
