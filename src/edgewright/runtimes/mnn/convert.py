"""MNN's converter in a process of its own: `python -m edgewright.runtimes.mnn.convert SOURCE TARGET [FLAG…]`.

The extension module `_tools` is called itself and not `MNN.tools.mnnconvert`, which installs a package and sends
records of use. It tells of success where it failed and ends its process on some models: the caller judges by the
file and by what was printed.
"""

import sys
from importlib import import_module
from pathlib import Path

from edgewright.runtimes.mnn.confine import confine


def main() -> None:
    source, target, *flags = sys.argv[1:]
    confine(Path(source).stat().st_size)
    import_module("_tools").mnnconvert(
        ["mnnconvert", "-f", "ONNX", "--modelFile", source, "--MNNModel", target, "--bizCode", "edgewright", *flags]
    )


if __name__ == "__main__":
    main()
