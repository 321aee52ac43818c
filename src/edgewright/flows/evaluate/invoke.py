"""Run a model once on the user's inputs, by the names and layouts of its source."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewright.bench.feeds import read_feeds, write_feeds
from edgewright.devices.protocol import Device
from edgewright.errors import OutputError
from edgewright.flows.candidates import check_reads, check_runs_here, choose_runtime
from edgewright.flows.evaluate.inference import infer
from edgewright.formats.artifacts import find_record
from edgewright.formats.files import read_model
from edgewright.runtimes.table import check_options
from edgewright.system.files import replace_atomically

Array = NDArray[Any]


def invoke(
    path: Path, inputs: Path, device: Device, *, runtime: str = "", options: Mapping[str, str] = {}, timeout_s: float
) -> tuple[dict[str, Array], tuple[str, ...]]:
    """The outputs for one set of inputs, and what the session noted.

    Args:
        path: a model, or an artifact with its record: that one takes and gives what its source does.
        inputs: an .npz with one array per input of the source.
        runtime: where several read the format; the artifact's own, or the one made for the format, by default.

    Raises ModelError, InputError, DeviceUnreachable for a runtime of another system, and the worker's errors.
    """
    info = choose_runtime(path, runtime)
    check_runs_here(info)
    check_options(info, dict(options))
    model, record = read_model(path), find_record(path)
    check_reads(info, model)
    feeds = read_feeds(inputs, record.source.signature if record else model.signature)
    stack = {name: array[np.newaxis] for name, array in feeds.items()}
    outputs, notes = infer(model, record, info.name, stack, device, options=options, timeout_s=timeout_s)
    return {name: array[0] for name, array in outputs.items()}, notes


def save_outputs(path: Path, outputs: Mapping[str, Array]) -> None:
    """Write an .npz under its name only when it is whole; OutputError where it cannot be written."""
    check_output_path(path)
    with replace_atomically(path, follow=True) as part:
        write_feeds(part, outputs)


def check_output_path(path: Path) -> None:
    """OutputError for a path at which no file can be made."""
    if path.is_dir() or not path.name:
        raise OutputError(f"{path} cannot be written", "it is a folder", "name a file: -o y.npz")
    if not path.parent.is_dir():
        raise OutputError(f"{path} cannot be written", f"there is no folder {path.parent}", "make it first")
