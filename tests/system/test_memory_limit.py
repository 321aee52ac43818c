"""The system's limit on what a process allocates."""

import subprocess
import sys
from math import inf

import pytest

from edgewright.system.memory_limit import is_allocation_failure

LIMIT = "from edgewright.system.memory_limit import limit_this_process"
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's own")


@pytest.mark.parametrize(("allowed", "succeeds"), [(50e6, False), (300e6, True), (inf, True)])
def test_what_exceeds_the_limit_fails_as_an_allocation(allowed: float, succeeds: bool) -> None:
    script = f"{LIMIT}; limit_this_process(float('{allowed}')); bytearray(150_000_000)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode == 0) == succeeds
    assert is_allocation_failure(done.stderr) != succeeds


def test_a_limit_that_is_there_already_stays() -> None:
    script = f"{LIMIT}; limit_this_process(50e6); limit_this_process(900e6); bytearray(150_000_000)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert "MemoryError" in done.stderr


@pytest.mark.parametrize("text", ["std::bad_alloc", "Failed to allocate memory for requested buffer of size 9"])
def test_what_libraries_say_is_known(text: str) -> None:
    assert is_allocation_failure(f"terminate called after throwing an instance of '{text}'")
    assert not is_allocation_failure("Segmentation fault")
