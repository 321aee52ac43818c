"""Models in use: `load` keeps a model for many calls."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any, Protocol, Self, TypedDict, Unpack

import msgspec
import numpy as np

from edgewright.api.options import accept, read_options
from edgewright.api.values import Pairs, check_utf8
from edgewright.devices.connection import make_missing_error
from edgewright.errors import EdgewrightError, InputError, ModelRejected, UsageError, WorkerError
from edgewright.flows.candidates import (
    check_number,
    check_reads,
    check_runs_here,
    choose_runtime,
    get_free_shapes,
    read_models,
    read_source_signature,
    split_options,
)
from edgewright.flows.devices.names import open_device
from edgewright.flows.evaluate.inference import MAX_LOADED, RunnerSettings, make_runner
from edgewright.formats.artifact_sets import choose_artifact, is_set, list_artifacts
from edgewright.formats.artifacts import find_record
from edgewright.formats.files import read_model
from edgewright.runtimes.contract import Mismatch, Rejected, Session
from edgewright.runtimes.table import RuntimeInfo, import_runtime
from edgewright.runtimes.wire import SessionRequest
from edgewright.runtimes.worker import reject_model_errors
from edgewright.schema.arrays import Array
from edgewright.schema.artifact import Artifact
from edgewright.schema.model import Model, TensorSpec
from edgewright.schema.plan import TIMEOUT_S
from edgewright.tasks.data.ports import feed_artifact, read_artifact_outputs

# Types whose values convert into each other.
KINDS = {"float": "float", "int": "integer", "uint": "integer"}
Shapes = tuple[tuple[str, tuple[int, ...]], ...]


class LoadOptions(TypedDict, total=False):
    """Keywords of `load`."""

    runtime: str | None
    threads: int
    option: Pairs
    isolated: bool
    timeout: float


class _Engine(Protocol):
    """Runs a model on one set of inputs, by the names and layouts of its source."""

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]: ...

    def close(self) -> None: ...


class LoadedModel:
    """A model that stays loaded, with the inputs and outputs of its source.

    Calls may come from several threads; they run one after the other. A `with` block releases the model at its end.

    Attributes:
        inputs, outputs: names, dtypes and shapes of those of the source; a text in a shape is a dynamic size.
        runtime: that runs the model.
    """

    def __init__(self, model: Model, runtime: str, engine: _Engine) -> None:
        signature = read_source_signature(model)
        self.inputs, self.outputs, self.runtime = signature.inputs, signature.outputs, runtime
        self._engine, self._name, self._lock, self._is_open = engine, model.name, Lock(), True

    def __call__(self, inputs: Any = None, /, **named: Any) -> dict[str, Array]:
        """Return the outputs for the inputs.

        Args:
            inputs: arrays by name, or one array if the model has one input. If the first size of all inputs is a
                multiple of the model's, the model runs for each part, and the outputs are joined on their first axis.
            **named: the same arrays as keywords.

        Returns:
            Arrays by the source's names of the outputs, in its layouts.

        Raises:
            InputError: names, dtypes or shapes do not fit.
            ModelRejected, WorkerError: the runtime failed.
        """
        feeds = self._read_inputs(inputs, named)
        parts = self._count_parts(feeds)
        with self._lock:
            if not self._is_open:
                why = "its `with` block ended, or close() was called"
                raise UsageError(f"{self._name} is closed", why, "load it again")
            if parts == 1:
                return self._engine.run(feeds)
            split = {name: np.split(array, parts) for name, array in feeds.items()}
            results = [self._engine.run({name: own[i] for name, own in split.items()}) for i in range(parts)]
        return {name: _join(name, [one[name] for one in results]) for name in results[0]}

    def _read_inputs(self, inputs: Any, named: Mapping[str, Any]) -> dict[str, Array]:
        given = dict(inputs or {}) if inputs is None or isinstance(inputs, Mapping) else {"": inputs}
        if "" in given and len(self.inputs) == 1:
            given = {self.inputs[0].name: given[""]}
        if twice := given.keys() & named.keys():
            raise InputError(f"input '{min(twice)}' is given twice", "once by name, once as a keyword", "give it once")
        given |= named
        wanted = {spec.name: spec for spec in self.inputs}
        if given.keys() != wanted.keys():
            known = ", ".join(f"{spec.name} {spec.dtype}{list(spec.shape)}" for spec in self.inputs) or "none"
            names = ", ".join(sorted(map(str, filter(None, given))))
            what = f"the inputs of {self._name} are not {names or 'a single array'}"
            raise InputError(what, f"they are {known}", "give arrays by name")
        return {name: _to_input(wanted[name], value) for name, value in given.items()}

    def _count_parts(self, feeds: Mapping[str, Array]) -> int:
        """Return how often the model runs; InputError if the shapes do not fit."""
        counts = {_count_entries(spec, feeds[spec.name]) for spec in self.inputs}
        if len(counts) > 1:
            what = f"the inputs of {self._name} have different first sizes"
            raise InputError(what, f"they are {sorted(counts)} times the model's", "give equally many of each input")
        return counts.pop() if counts else 1

    def close(self) -> None:
        """Release the model; a second call does nothing."""
        with self._lock:
            if self._is_open:
                self._is_open = False
                self._engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<LoadedModel: {self._name} in {self.runtime}>"


def _to_input(spec: TensorSpec, value: Any) -> Array:
    """Return the value as an array of the input's dtype.

    Floats are rounded to another float type, and integers converted if none changes; all else is an InputError.
    """
    try:
        array = np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)
    except (TypeError, ValueError, RuntimeError) as error:  # lists of differing lengths, types that NumPy lacks
        what = f"the value given for input '{spec.name}' is not an array"
        raise InputError(what, str(error), f"give a NumPy array of {spec.dtype}") from None
    if spec.dtype == "str" or array.dtype.name == spec.dtype:
        return array
    converted = _convert(array, spec.dtype)
    if converted is None:
        what = f"input '{spec.name}' is {spec.dtype}, but the value given is {array.dtype.name}"
        raise InputError(what, "a conversion could change values", f"convert it with .astype('{spec.dtype}')")
    return converted


def _convert(array: Array, dtype: str) -> Array | None:
    """Return the array as another float type, or as an integer type that holds all its values; otherwise None."""
    kinds = [KINDS.get(name.rstrip("0123456789")) for name in (array.dtype.name, dtype)]
    if None in kinds or kinds[0] != kinds[1]:
        return None
    with np.errstate(over="ignore"):
        converted: Array = array.astype(dtype)
    same = np.isfinite(converted) == np.isfinite(array) if kinds[0] == "float" else converted == array
    return converted if same.all() else None


def _join(name: str, parts: Sequence[Array]) -> Array:
    """Return the parts of an output joined on their first axis; InputError if it has none."""
    if parts[0].ndim == 0:
        what = f"output '{name}' is a scalar, so the outputs of {len(parts)} runs cannot be joined"
        raise InputError(what, "they are joined on their first axis", "call the model once for each part")
    return np.concatenate(parts)


def _count_entries(spec: TensorSpec, array: Array) -> int:
    """Return how many times the model's first size the array has; InputError if its shape does not fit."""
    fits = [isinstance(size, str) or size == length for size, length in zip(spec.shape, array.shape, strict=False)]
    if len(spec.shape) == array.ndim and all(fits):
        return 1
    first = spec.shape[0] if spec.shape else 0
    if len(spec.shape) == array.ndim and all(fits[1:]) and isinstance(first, int) and first > 0:
        parts, rest = divmod(array.shape[0], first)
        if parts and not rest:
            return int(parts)
    what = f"input '{spec.name}' has shape {list(spec.shape)}, but the value given has shape {list(array.shape)}"
    raise InputError(what, "only the first size may be a multiple of the model's", "reshape or resize the array")


class _InProcess:
    """The model in this process; with dynamic sizes and of a set one session for each shape, at most MAX_LOADED."""

    def __init__(self, model: Model, info: RuntimeInfo, request: SessionRequest) -> None:
        self._model, self._info, self._request = model, info, request
        self._module = import_runtime(info)
        inputs = read_source_signature(model).inputs
        self._dynamic = [spec.name for spec in inputs if any(isinstance(size, str) for size in spec.shape)]
        self._sessions: dict[Shapes, tuple[Session, Artifact | None]] = {}
        try:
            self._module.version()
        except ImportError as error:
            raise make_missing_error(info, str(error)) from None

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        with _translate_errors(self._info.name):
            session, record = self._find_session(feeds)
            session.bind(feed_artifact(feeds, record.io_map) if record else dict(feeds))
            with reject_model_errors():
                session.run()
            outputs = session.fetch()
        return read_artifact_outputs(outputs, record.io_map) if record else outputs

    def _find_session(self, feeds: Mapping[str, Array]) -> tuple[Session, Artifact | None]:
        """Return the session for the shapes of the inputs, in place of the one that was not used for longest."""
        key = tuple((name, feeds[name].shape) for name in self._dynamic)
        found = self._sessions.pop(key, None) or self._open(feeds)
        self._sessions[key] = found
        if len(self._sessions) > MAX_LOADED:
            self._sessions.pop(next(iter(self._sessions)))[0].close()
        return found

    def _open(self, feeds: Mapping[str, Array]) -> tuple[Session, Artifact | None]:
        path = Path(self._model.path)
        shapes = {name: array.shape for name, array in feeds.items()}
        model = read_model(choose_artifact(path, shapes)) if is_set(path) else self._model
        record = find_record(Path(model.path))
        own = feed_artifact(feeds, record.io_map) if record else feeds
        request = msgspec.structs.replace(
            self._request, model=model.path, shapes=get_free_shapes(model, own), model_bytes=model.bytes
        )
        return self._module.open_session(request), record

    def close(self) -> None:
        for session, _ in self._sessions.values():
            session.close()


@contextmanager
def _translate_errors(runtime: str) -> Iterator[None]:
    """Raise the errors of a session as the errors of a worker."""
    try:
        yield
    except Rejected as error:
        raise ModelRejected(f"{runtime} rejects the model", str(error)) from error
    except Mismatch as error:
        raise InputError("the inputs do not fit the model", str(error), "print(model.inputs) shows them") from error
    except MemoryError as error:
        raise WorkerError(f"{runtime} ran out of memory", str(error), "use a smaller model or batch") from error
    except EdgewrightError:
        raise
    except Exception as error:  # each runtime has its own exceptions
        why = f"{type(error).__name__}: {error}"
        raise WorkerError(f"{runtime} failed", why, "isolated=True runs it in a process of its own") from error


class _Isolated:
    """The model in a worker process, which ends with the model or with this process."""

    def __init__(self, model: Model, info: RuntimeInfo, request: SessionRequest, timeout_s: float) -> None:
        self._device = open_device("local")
        settings: RunnerSettings = {"options": request.options, "threads": request.threads, "timeout_s": timeout_s}
        self._runner = make_runner(model, info.name, self._device, **settings)

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        outputs = self._runner.run({name: array[np.newaxis] for name, array in feeds.items()})
        return {name: array[0] for name, array in outputs.items()}

    def close(self) -> None:
        self._runner.__exit__(None, None, None)
        self._device.close()


@accept(LoadOptions, threads=1, timeout=TIMEOUT_S)
def load(path: str | Path, **options: Unpack[LoadOptions]) -> LoadedModel:
    """Load a model for many calls: a file that a runtime reads, an artifact, or a set file, which picks by the sizes.

    An artifact has the inputs and outputs of its source: names, dtypes and layouts. The model is loaded at the first
    call.

    Args:
        path: of the model, the artifact, or the set file (`*.set.json`).
        **options: `runtime`: by default the artifact's own, or the default of the format; `threads` per inference;
            `option`: of the runtime; `isolated`: run in a worker process, so that a crash of the runtime does not end
            this one; `timeout`: seconds for an answer of the worker.

    Returns:
        A function of the inputs: `load("x.tflite")({"image": array})` returns arrays by name.

    Raises:
        ModelError: the model cannot be read.
        RuntimeMissing: the runtime is not installed.
        UsageError: an option is not valid.

    Example:
        >>> import edgewright, numpy
        >>> with edgewright.load("digits.onnx") as model:
        ...     outputs = model({"image": numpy.zeros((1, 1, 8, 8), "float32")})
        >>> outputs["logits"].shape
        (1, 10)
    """
    given = read_options(options)
    timeout_s, threads = given.get("timeout_s", TIMEOUT_S), given.get("threads", 1)
    check_number("timeout_s", timeout_s)
    check_number("threads", threads)
    name = str(path)
    check_utf8("the path of a model", name)
    model = read_models([name], sets=True)[name]
    first = list_artifacts(Path(name))[0] if is_set(Path(name)) else Path(name)
    info = choose_runtime(first, given.get("runtime", ""))
    check_runs_here(info)
    check_reads(info, model)
    request = SessionRequest(
        model=model.path, threads=threads, options=split_options(given.get("option", ()), [info])[info.name]
    )
    engine = _Isolated(model, info, request, timeout_s) if given.get("isolated") else _InProcess(model, info, request)
    return LoadedModel(model, info.name, engine)
