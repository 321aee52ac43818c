"""MNN's library, loaded so that its idle threads cost little.

The engine (`_mnncengine`) and the converter (`_tools`) are extension modules. `MNN.tools`, which installs a package and
sends records of use when it is imported, is barred in every process of ours (`edgewright/telemetry.py`).
"""

import os
from importlib import import_module
from typing import Any

# Idle OpenMP threads spin by default, which costs more than waking them on a machine with other work.
# Values set by the user are kept.
WAITING = {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "0"}


def load_library() -> Any:
    """Return the module `MNN`. Raises ImportError if it is absent."""
    for name, value in WAITING.items():
        os.environ.setdefault(name, value)
    return import_module("MNN")


def version() -> str:
    """Return the version of the installed library, which this imports. Raises ImportError if there is none."""
    return str(load_library().version())
