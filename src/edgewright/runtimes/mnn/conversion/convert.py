"""MNN's converter in a separate process.

It is started as `python -m edgewright.runtimes.mnn.conversion.convert SOURCE TARGET [FLAG…]`.

The extension module `_tools` is called itself and not `MNN.tools.mnnconvert`, which installs a package and sends
records of use. It reports success after failures and ends its process on some models, so the caller checks the file
and the output.
"""

import sys
from importlib import import_module
from pathlib import Path

from edgewright.runtimes.mnn.conversion.confine import confine_process


def main() -> None:
    source, target, *flags = sys.argv[1:]
    confine_process(Path(source).stat().st_size)
    import_module("_tools").mnnconvert(
        ["mnnconvert", "-f", "ONNX", "--modelFile", source, "--MNNModel", target, "--bizCode", "edgewright", *flags]
    )


if __name__ == "__main__":
    main()
