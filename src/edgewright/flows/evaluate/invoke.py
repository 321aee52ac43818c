"""Single inference on the user's inputs, by the names and layouts of the source."""

from collections.abc import Mapping, Sequence
from os.path import realpath
from pathlib import Path

import numpy as np

from edgewright.bench.feeds import read_feeds, read_shapes, write_feeds
from edgewright.devices.protocol import Device
from edgewright.errors import OutputError, UsageError
from edgewright.flows.candidates import check_reads, check_runs_here, choose_runtime
from edgewright.flows.evaluate.inference import infer
from edgewright.formats.artifact_sets import choose_artifact, is_set
from edgewright.formats.artifacts import find_record
from edgewright.formats.files import read_model
from edgewright.runtimes.table import check_options
from edgewright.schema.arrays import Array
from edgewright.system.files import replace_atomically


def choose_file(path: Path, inputs: Path) -> Path:
    """Return the model file to run: `path`, or the artifact for these inputs if it is a set file.

    Raises as `choose_artifact`, and InputError for inputs that cannot be read.
    """
    return choose_artifact(path, read_shapes(inputs)) if is_set(path) else path


def invoke(
    path: Path, inputs: Path, device: Device, *, runtime: str = "", options: Mapping[str, str] = {}, timeout_s: float
) -> tuple[dict[str, Array], tuple[str, ...]]:
    """Return the outputs for one set of inputs, and the session's notes.

    Args:
        path: a model, or an artifact with its record, which has the inputs and outputs of its source.
        inputs: an .npz with one array per input of the source.
        runtime: if several read the format; by default the artifact's own, or the format's default.

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
    """Write an .npz atomically; OutputError if it cannot be written."""
    _check_output_path(path)
    with replace_atomically(path, follow=True) as part:
        write_feeds(part, outputs)


def check_output_paths(outputs: Sequence[Path], inputs: Sequence[Path]) -> None:
    """Raise OutputError for a path at which no file can be created, UsageError for an input or a repeated output."""
    for i, path in enumerate(outputs):
        _check_output_path(path)
        if any(_is_same(path, one) for one in inputs):
            raise UsageError(f"{path} would be overwritten", "it is an input of this command", "give another file name")
        if any(_is_same(path, one) for one in outputs[:i]):
            raise UsageError(f"{path} is given for two outputs", "one would overwrite the other", "give two file names")


def _is_same(a: Path, b: Path) -> bool:
    return realpath(a) == realpath(b) or (a.exists() and b.exists() and a.samefile(b))


def _check_output_path(path: Path) -> None:
    """Raise OutputError for a path at which no file can be created."""
    if path.is_dir() or not path.name:
        raise OutputError(f"cannot write {path}", "the path is a folder", "give a file name")
    if not path.parent.is_dir():
        raise OutputError(f"cannot write {path}", f"folder {path.parent} does not exist", "create the folder first")
