"""One conversion to LiteRT in its own process and environment, started by `benchmarks.converters`.

It runs in the interpreter of the converter's environment and therefore imports nothing of Edgewright. It imports torch,
TensorFlow or the writer only if necessary. The task and the report are JSON files, because the converters write to
stdout.
"""

import json
import os
import resource
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from time import perf_counter
from typing import Any

Task = Mapping[str, Any]
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def main() -> None:
    task = json.loads(Path(sys.argv[1]).read_text())
    convert = PREPARE[task["converter"]](task)
    before = forget_peak()
    began, cpu = perf_counter(), cpu_seconds()
    convert()
    report = {"seconds": perf_counter() - began, "cpu_seconds": cpu_seconds() - cpu, **grown(before)}
    Path(task["report"]).write_text(json.dumps(report))


def prepare_writer(task: Task) -> Callable[[], None]:
    """Convert with Edgewright's writer, with or without its check."""
    import ai_edge_litert.interpreter
    import ai_edge_litert.schema_py_generated  # noqa: F401  (the writer imports it inside its functions)

    from edgewright.runtimes.litert.writer import convert_onnx

    checked = task["converter"] == "writer"

    def convert() -> None:
        Path(task["target"]).write_bytes(convert_onnx(Path(task["source"]), check=checked).data)

    return convert


def prepare_onnx2tf(task: Task) -> Callable[[], None]:
    """Convert with onnx2tf; its array is on disk, and Erf is replaced by operators that LiteRT has."""
    import numpy as np

    onnx2tf = import_module("onnx2tf")
    sample = np.random.default_rng(0).random((20, 128, 128, 3), dtype=np.float32)
    np.save("calibration_image_sample_data_20x128x128x3_float32.npy", sample)
    shapes = [shape.replace("=", ":") for shape in task["shapes"]]

    def convert() -> None:
        onnx2tf.convert(
            input_onnx_file_path=task["source"],
            output_folder_path="onnx2tf",
            copy_onnx_input_output_names_to_tflite=True,
            overwrite_input_shape=shapes or None,
            replace_to_pseudo_operators=["erf"],  # its command lowers the case, its function does not
            non_verbose=True,
        )
        (Path("onnx2tf") / f"{Path(task['source']).stem}_float32.tflite").rename(task["target"])

    return convert


def prepare_litert_torch(task: Task) -> Callable[[], None]:
    """Convert the suite's module, or MobileNetV2 with the weights of an ONNX file; images are channels last."""
    import litert_torch
    import torch

    from benchmarks.suite.settle import build_model, make_inputs
    from benchmarks.suite.table import find_entry

    entry = find_entry(task["entry"])
    model, inputs = build_model(entry), make_inputs(entry, 1, seed=2)
    if task["weights"]:
        from benchmarks.suite.given import load_mobilenet

        model = load_mobilenet(Path(task["weights"]))
    with torch.no_grad():
        found = model(*inputs)
    images = [place for place, value in enumerate(inputs) if value.dim() == 4]
    pictures = [
        place for place, value in enumerate(found if isinstance(found, tuple) else (found,)) if value.dim() == 4
    ]
    turned = tuple(value.permute(0, 2, 3, 1).contiguous() if value.dim() == 4 else value for value in inputs)
    if images or pictures:
        model = litert_torch.to_channel_last_io(model, args=images, outputs=pictures)

    def convert() -> None:
        litert_torch.convert(model.eval(), turned).export(task["target"])

    return convert


PREPARE: Mapping[str, Callable[[Task], Callable[[], None]]] = {
    "writer": prepare_writer,
    "writer-unchecked": prepare_writer,
    "onnx2tf": prepare_onnx2tf,
    "litert-torch": prepare_litert_torch,
}


def cpu_seconds() -> float:
    """Return the CPU seconds of this process with all its threads, and of its finished child processes."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def forget_peak() -> int | None:
    """Reset the peak memory to the resident bytes and return them (proc(5), clear_refs); None without /proc."""
    if not CLEAR.exists():
        return None
    CLEAR.write_text("5")
    return read_status("VmRSS")


def grown(before: int | None) -> dict[str, int | None]:
    """Return the peak resident bytes since `forget_peak`: above the value then, and in all.

    A process that this one starts counts for the latter alone: its own figure begins with this one's pages.
    """
    if before is None:
        return {"grown_bytes": None, "peak_bytes": None}
    child = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    peak = read_status("VmHWM")
    return {"grown_bytes": peak - before, "peak_bytes": max(peak, child)}


def read_status(field: str) -> int:
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(f"{field}:"))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    main()
