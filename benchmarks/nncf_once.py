"""One quantization by NNCF in its own environment: `python nncf_once.py MODEL SAMPLES.npy TARGET REPORT`.

It runs in the interpreter of that environment and therefore imports nothing of Edgewright. NNCF's quality settings: the
mixed preset, and bias correction layer by layer through the quantized network instead of the fast one.
"""

import json
import os
import sys
from importlib import import_module
from pathlib import Path
from time import perf_counter, process_time

os.environ["NNCF_CI"] = "1"  # it would send usage data


def main(model: str, samples: str, target: str, report: str) -> None:
    import numpy as np
    import onnx

    nncf = import_module("nncf")

    source, stacked = onnx.load(model), np.load(samples)
    name = source.graph.input[0].name
    data = nncf.Dataset(list(stacked), lambda sample: {name: sample})
    began, cpu = perf_counter(), process_time()
    made = nncf.quantize(
        source,
        data,
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(stacked),
        fast_bias_correction=False,
    )
    spent = {"seconds": perf_counter() - began, "cpu_seconds": process_time() - cpu}
    onnx.save(made, target)
    Path(report).write_text(json.dumps(spent))


if __name__ == "__main__":
    main(*sys.argv[1:])
