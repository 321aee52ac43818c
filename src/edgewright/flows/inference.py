"""Run a model once, or over a stack of inputs, in a worker of its own."""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewright.bench.feeds import write_feeds
from edgewright.devices.contract import Device
from edgewright.facts.artifact import Artifact
from edgewright.facts.model import Model
from edgewright.facts.plan import TIMEOUT_S
from edgewright.flows.resolve import free_shapes
from edgewright.formats.files import hash_file
from edgewright.runtimes.wire import Invoke, Open, Opened, SessionRequest, Told
from edgewright.store.ids import new_run_id
from edgewright.tasks.ports import feed_artifact, read_artifact_outputs

Array = NDArray[Any]


def infer(
    model: Model,
    record: Artifact | None,
    runtime: str,
    stack: Mapping[str, Array],
    device: Device,
    *,
    options: Mapping[str, str] = {},
    timeout_s: float = TIMEOUT_S,
) -> tuple[dict[str, Array], tuple[str, ...]]:
    """The outputs for every entry of the stacked inputs, and what the session noted.

    Args:
        record: that of an artifact, whose inputs and outputs then go by the source's names and layouts.
        stack: one array per input with one more leading axis, whose entries are run one after the other. A model
            without inputs runs once.

    Raises whatever the worker raises.
    """
    own = feed_artifact(stack, record.io_map, stacked=True) if record else dict(stack)
    beside = {name: Path(model.path).parent / name for name in model.data_files}
    with TemporaryDirectory(prefix="edgewright-") as name:
        folder = Path(name)
        write_feeds(folder / "one.npz", {name: array[0] for name, array in own.items()})
        write_feeds(folder / "all.npz", own)
        one, every = (device.push(folder / file, hash_file(folder / file)) for file in ("one.npz", "all.npz"))
        outputs = f"{device.workspace()}/{new_run_id()}.npz"
        request = SessionRequest(
            model=device.push(Path(model.path), model.sha256, beside),
            options=dict(options),
            shapes=free_shapes(model, {name: array[0] for name, array in own.items()}),
        )
        with device.start_worker(runtime, (), timeout_s, folder / "worker.log") as worker:
            notes = worker.ask(Open(session=request, feeds=one), Opened).notes
            worker.ask(Invoke(feeds=every, outputs=outputs, stacked=bool(own)), Told)
            worker.leave()
        device.pull(outputs, folder / "outputs.npz")
        with np.load(folder / "outputs.npz", allow_pickle=False) as file:
            given: dict[str, Array] = {name: file[name] if own else file[name][np.newaxis] for name in file.files}
    return read_artifact_outputs(given, record.io_map, stacked=True) if record else given, notes
