"""Weights that ONNX Runtime maps from a file instead of copying them.

ONNX Runtime maps external weights, but copies those that it packs or changes while it optimizes the graph. So the
optimized graph is saved once, with its weights beside it, and loaded without optimization and packing from then on. The
file fits this processor and this version only, by which it is named; the first start still copies.
"""

import platform
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from edgewright.runtimes.contract import Rejected
from edgewright.runtimes.wire import SessionRequest
from edgewright.system.files import create_folder_atomically

MODEL, WEIGHTS = "model.onnx", "model.onnx.data"
SMALLEST_BYTES = "1024"  # weights below stay in the model's file


def prepare_mapped(request: SessionRequest, optimize: Callable[[Any], object], options: Any) -> tuple[str, Any]:
    """Return the file to load, and the options with which it is mapped.

    Args:
        optimize: loads the model with the options, which write the optimized file.
        options: `SessionOptions` for that.

    Raises Rejected for options that exclude it, and if the file cannot be written.
    """
    import onnxruntime

    if request.options.get("provider", "CPU").removesuffix("ExecutionProvider").upper() != "CPU":
        raise Rejected("weights=mapped needs provider=CPU")
    folder = _find_folder(request)
    if not (folder / MODEL).is_file():
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with create_folder_atomically(folder, MODEL) as made:
                options.optimized_model_filepath = str(made / MODEL)
                entry = "session.optimized_model_external_initializers_"
                options.add_session_config_entry(f"{entry}file_name", WEIGHTS)
                options.add_session_config_entry(f"{entry}min_size_in_bytes", SMALLEST_BYTES)
                optimize(options)
        except OSError as error:
            if (folder / MODEL).is_file():  # another process was faster
                return str(folder / MODEL), onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
            raise Rejected(f"the optimized model cannot be written: {error}") from error
    return str(folder / MODEL), onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL


def _find_folder(request: SessionRequest) -> Path:
    import onnxruntime
    import platformdirs

    path = Path(request.model).resolve()
    beside = sorted(_describe_file(one) for one in path.parent.iterdir() if one.is_file())  # weights may be in them
    key = (str(path), beside, onnxruntime.__version__, _describe_processor())
    digest = sha256(repr((*key, sorted(request.options.items()))).encode()).hexdigest()
    return platformdirs.user_cache_path("edgewright", appauthor=False) / "mapped" / digest[:24]


def _describe_file(path: Path) -> tuple[str, int, int]:
    status = path.stat()
    return path.name, status.st_size, status.st_mtime_ns


def _describe_processor() -> Sequence[str]:
    """Return what ONNX Runtime chooses its layouts by: the processor's names and instruction sets."""
    names = ("model name", "flags", "Features", "CPU part")
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return (platform.machine(), platform.processor())
    return sorted({line for line in lines if line.startswith(names)})
