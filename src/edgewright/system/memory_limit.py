"""The system's limit on the memory of a process, in addition to `limits`.

A library's allocations for a model cannot always be predicted. A process that handles models may therefore
allocate a certain amount beyond what it has when the limit is set. An allocation beyond it fails at once and does
not take memory of other processes. The kernel checks the limit in each allocation anyway, so the limit costs no
time. Only Linux has such a limit (RLIMIT_DATA, setrlimit(2)).
"""

import os
import re
import sys
from math import isfinite
from pathlib import Path

MODEL_COPIES = 4  # a runtime parses, keeps and repacks the weights
CONVERTER_COPIES = 8  # a converter also changes and writes them
SPARE_BYTES = 250_000_000  # imports and setup of a runtime with its first model
CONVERTER_SPARE_BYTES = 400_000_000  # the same for converters; torch takes 270 MB of it
THREAD_BYTES = 32_000_000  # stack and buffers of one thread of a pool
# Messages of libraries about failed allocations.
ALLOCATION_MESSAGES = (
    "bad_alloc", "bad allocation", "Failed to allocate memory", "MemoryError", "Cannot allocate memory",
    "Unable to allocate", "can't allocate memory", "out of memory", "Out of memory", "not enough memory",
    "Memory allocation",
)  # fmt: skip


def limit_this_process(allowed: float) -> None:
    """Let this process allocate `allowed` bytes beyond what it has now; a limit that it is under already stays."""
    limit_process(os.getpid(), allowed)


def limit_process(process: int, allowed: float) -> None:
    """Let a process of ours allocate `allowed` bytes beyond what it has now, within the limit of this process."""
    if sys.platform != "linux":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    most = soft
    try:
        if isfinite(allowed):
            most = _read_data_bytes(process) + int(allowed)
            most = most if soft == resource.RLIM_INFINITY else min(most, soft)
        resource.prlimit(process, resource.RLIMIT_DATA, (most, hard))
    except OSError:  # it has ended, or may not be inspected
        return


def _read_data_bytes(process: int) -> int:
    """Return the bytes that the kernel counts against the limit."""
    status = Path(f"/proc/{process}/status").read_text()
    found = re.search(r"^VmData:\s*(\d+)", status, re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def supports_limit() -> bool:
    """Return whether this system can limit what a process allocates."""
    return sys.platform == "linux"


def is_allocation_failure(text: str) -> bool:
    """Return whether a library's message says that an allocation failed."""
    return any(message in text for message in ALLOCATION_MESSAGES)
