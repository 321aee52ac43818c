"""Inference over stacks of inputs in a worker."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Self, TypedDict, Unpack

import numpy as np

from edgewright.devices.connection import Connection
from edgewright.devices.protocol import Device
from edgewright.errors import WorkerError
from edgewright.flows.candidates import get_free_shapes
from edgewright.formats.artifact_sets import choose_artifact, is_set
from edgewright.formats.artifacts import find_record
from edgewright.formats.files import read_model
from edgewright.runtimes.contract import VaryingOutput
from edgewright.runtimes.tensor_file import SUFFIX, read_tensor_file, write_tensor_file
from edgewright.runtimes.wire import CommandDone, Invoke, Open, Opened, SessionRequest
from edgewright.schema.arrays import Array
from edgewright.schema.artifact import Artifact
from edgewright.schema.model import Model
from edgewright.schema.plan import TIMEOUT_S
from edgewright.store.runs.ids import new_run_id
from edgewright.system.temporary import TemporaryFolder
from edgewright.tasks.data.ports import feed_artifact, read_artifact_outputs

SLOWER = 10  # largest ratio of inference times between inputs of one model
MAX_LOADED = 4  # workers for different sizes of one model


class RunnerSettings(TypedDict, total=False):
    """Optional settings of a runner."""

    options: Mapping[str, str]
    threads: int
    timeout_s: float
    variables: Mapping[str, str]


def infer(
    model: Model,
    record: Artifact | None,
    runtime: str,
    stack: Mapping[str, Array],
    device: Device,
    **settings: Unpack[RunnerSettings],
) -> tuple[dict[str, Array], tuple[str, ...]]:
    """Return the outputs for every entry of the stacked inputs, and the session's notes.

    Args:
        record: of an artifact, whose inputs and outputs then go by the source's names and layouts.
        stack: one array per input with one more leading axis, whose entries are run one by one. A model without inputs
            runs once.

    Raises any error of the worker.
    """
    with Runner(model, record, runtime, device, **settings) as runner:
        outputs = runner.run(stack)
        runner.leave()
        return outputs, runner.notes


def _split_first(own: Mapping[str, Array]) -> list[dict[str, Array]]:
    """Return the first entry of a stack, which tests the time limit, and the rest."""
    parts = [{name: array[part] for name, array in own.items()} for part in (slice(0, 1), slice(1, None))]
    return parts if own and all(len(array) for array in parts[1].values()) else parts[:1]


def _join(parts: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
    """Concatenate the outputs of the parts of a stack."""
    if len(parts) == 1:
        return dict(parts[0])
    for name, array in parts[0].items():
        if other := next((part[name].shape[1:] for part in parts if part[name].shape[1:] != array.shape[1:]), None):
            shapes = f"{list(array.shape[1:])} and {list(other)}"
            raise WorkerError(
                "the shape of the model's output varies",
                f"'{name}' has the shapes {shapes} for two inputs",
                VaryingOutput.hint,
            )
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


class Runner:
    """A model that stays loaded in its worker, from the first stack until the `with` block ends.

    Attributes:
        notes: of the session.
    """

    def __init__(
        self,
        model: Model,
        record: Artifact | None,
        runtime: str,
        device: Device,
        **settings: Unpack[RunnerSettings],
    ) -> None:
        self.notes: tuple[str, ...] = ()
        self._model, self._record, self._runtime, self._device = model, record, runtime, device
        self._options, self._variables = dict(settings.get("options", {})), settings.get("variables", {})
        self._threads, self._timeout_s = settings.get("threads", 1), settings.get("timeout_s", TIMEOUT_S)
        self._folder = TemporaryFolder()
        self._id = new_run_id()
        self._outputs = f"{device.workspace()}/{self._id}{SUFFIX}"
        self._worker: Connection | None = None
        self._entry_s = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    @property
    def log(self) -> Path:
        """Return the worker's stderr."""
        return self._folder.path / "worker.log"

    def run(self, stack: Mapping[str, Array]) -> dict[str, Array]:
        """Return the outputs for every entry of the stacked inputs. Raises any error of the worker."""
        own = feed_artifact(stack, self._record.io_map, stacked=True) if self._record else dict(stack)
        parts = [own]
        if self._worker is None:
            self._worker = self._open(own)
            parts = _split_first(own)
        given = _join([self._run_part(self._worker, part) for part in parts])
        return read_artifact_outputs(given, self._record.io_map, stacked=True) if self._record else given

    def _run_part(self, worker: Connection, own: Mapping[str, Array]) -> dict[str, Array]:
        """Return the outputs for some entries; the time of the first ones sets the limit of those that follow."""
        count = len(next(iter(own.values()))) if own else 1
        command = Invoke(feeds=self._send(f"all{SUFFIX}", own), outputs=self._outputs, stacked=bool(own))
        began = monotonic()
        worker.ask(command, CommandDone, expected_s=SLOWER * count * self._entry_s)
        self._entry_s = max(self._entry_s, (monotonic() - began) / count)
        here = self._folder.path / f"outputs{SUFFIX}"
        self._device.pull(self._outputs, here)
        outputs = read_tensor_file(here)
        return outputs if own else {name: array[np.newaxis] for name, array in outputs.items()}

    def _open(self, own: Mapping[str, Array]) -> Connection:
        first = {name: array[0] for name, array in own.items()}
        data_files = {name: Path(self._model.path).parent / name for name in self._model.data_files}
        request = SessionRequest(
            model=self._device.push(Path(self._model.path), self._model.sha256, data_files),
            threads=self._threads,
            options=self._options,
            shapes=get_free_shapes(self._model, first),
            model_bytes=self._model.bytes,
        )
        one = self._send(f"one{SUFFIX}", first)
        worker = self._device.start_worker(self._runtime, (), self._timeout_s, self.log, variables=self._variables)
        try:
            self.notes = worker.ask(Open(session=request, feeds=one), Opened, expected_s=0.0).notes
        except BaseException:
            worker.end()
            raise
        return worker

    def _send(self, name: str, arrays: Mapping[str, Array]) -> str:
        """Put the arrays onto the device, without a hash, which costs 5 % of an image: they replace the last ones."""
        path = self._folder.path / f"{self._id}-{name}"
        write_tensor_file(path, arrays)
        return self._device.push(path, "")

    def leave(self) -> None:
        """Ask the worker to exit."""
        if self._worker is not None:
            self._worker.leave()

    def end(self) -> None:
        """End the worker, and remove its files."""
        if self._worker is not None:
            self._worker.end()
        self._folder.close()


class SizedRunner:
    """A set of artifacts, or a model with dynamic sizes, which is loaded for each size of the inputs that occurs.

    At most `MAX_LOADED` stay loaded until the `with` block ends.
    """

    def __init__(self, model: Model, runtime: str, device: Device, **settings: Unpack[RunnerSettings]) -> None:
        self._model, self._runtime, self._device, self._settings = model, runtime, device, settings
        self._runners: dict[tuple[object, ...], Runner] = {}  # by the shapes of the inputs, the last used one last
        self._notes: dict[str, None] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for runner in self._runners.values():
            runner.end()

    @property
    def notes(self) -> tuple[str, ...]:
        """Return the notes of all sessions."""
        return tuple(self._notes)

    def run(self, stack: Mapping[str, Array]) -> dict[str, Array]:
        """Return the outputs for every entry of the stacked inputs.

        Raises InputError if no artifact of the set takes their size, and any error of the worker.
        """
        shapes = {name: array.shape[1:] for name, array in stack.items()}
        key = tuple(sorted(shapes.items()))
        runner = self._runners.pop(key, None) or self._load(shapes)
        self._runners[key] = runner
        outputs = runner.run(stack)
        self._notes |= dict.fromkeys(runner.notes)
        return outputs

    def _load(self, shapes: Mapping[str, tuple[int, ...]]) -> Runner:
        """Return a new runner for these shapes, in place of the one that was not used for longest."""
        if len(self._runners) == MAX_LOADED:
            self._runners.pop(next(iter(self._runners))).end()
        path = Path(self._model.path)
        model = read_model(choose_artifact(path, shapes)) if is_set(path) else self._model
        return Runner(model, find_record(Path(model.path)), self._runtime, self._device, **self._settings)


def make_runner(model: Model, runtime: str, device: Device, **settings: Unpack[RunnerSettings]) -> Runner | SizedRunner:
    """Return the runner of a model, an artifact or a set."""
    if any(isinstance(size, str) for spec in model.signature.inputs for size in spec.shape):
        return SizedRunner(model, runtime, device, **settings)
    return Runner(model, find_record(Path(model.path)), runtime, device, **settings)
