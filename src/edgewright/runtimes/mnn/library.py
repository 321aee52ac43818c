"""MNN's library, loaded so that it can neither install anything nor speak to anyone.

`MNN.tools` installs a package and sends records of use when it is imported. Nothing here needs it, so its import
is made impossible in every process that loads MNN. The engine (`_mnncengine`) and the converter (`_tools`) are
extension modules without any of that.
"""

import os
import sys
from importlib import import_module
from typing import Any

BARRED = ("MNN.tools", "aliyun")
# Idle OpenMP threads spin by default, which on a machine that does something else too costs more than waking them.
# What the user has set stays.
WAITING = {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "0"}


def bar_telemetry() -> None:
    """Make the imports of what phones home fail in this process."""
    for name in BARRED:
        sys.modules[name] = None  # type: ignore[assignment]  # None is how Python is told that there is no such module


def load_library() -> Any:
    """The module `MNN`; ImportError where it is absent."""
    bar_telemetry()
    for name, value in WAITING.items():
        os.environ.setdefault(name, value)
    return import_module("MNN")


def version() -> str:
    """The version of the installed library, which this imports; ImportError where there is none."""
    return str(load_library().version())
