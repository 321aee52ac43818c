"""Reference of the numerical check: inputs, and what the source computes for them."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from edgewright.bench.check_inputs import LARGE_EXPONENTS, draw_sample, list_kinds, nudge
from edgewright.bench.feeds import check_size, read_feeds
from edgewright.bench.integer_inputs import DTYPES, IntegerRole, find_roles
from edgewright.bench.numerics import compare_outputs
from edgewright.bench.output_parts import CARRYING, OutputPart, find_parts
from edgewright.devices.protocol import Device
from edgewright.errors import EdgewrightError, InputError, LimitReached, ModelRejected, WorkerError, WorkerTimeout
from edgewright.flows.compile.sources import QDQ_PRECISIONS, REFERENCE_RUNTIMES, WITHOUT_OPTIMIZATION, PreparedSource
from edgewright.flows.evaluate.inference import Runner
from edgewright.formats.files import read_graph
from edgewright.formats.neighbors import find_producers, find_upstream
from edgewright.formats.onnx.typed import read_onnx_graph
from edgewright.formats.typed_graph import TypedGraph
from edgewright.limits import read_budget
from edgewright.schema.arrays import Array
from edgewright.schema.plan import CompilePlan

Stack = Mapping[str, Array]
STABLE_DB = 80.0  # of the source's outputs, if its inputs change by a millionth
RANDOM_OPS = ("Bernoulli", "Dropout", "Multinomial")  # and those that begin with Random


class CheckReference(NamedTuple):
    """Inputs of the check and the source's outputs for them, with the samples along the first axis.

    Attributes:
        kinds: of each sample, as in `bench/check_inputs`.
        outputs: those that can be compared, by name.
        shapes: of every output, of one sample.
        notes: on the outputs that cannot be compared.
        parts: of the outputs that a Concat joins.
    """

    stack: Stack
    kinds: tuple[str, ...]
    outputs: Stack = MappingProxyType({})
    shapes: Mapping[str, tuple[int, ...]] = MappingProxyType({})
    notes: tuple[str, ...] = ()
    parts: Mapping[str, Sequence[OutputPart]] = MappingProxyType({})


class ReferenceRuns:
    """The source, loaded in ONNX Runtime or LiteRT; a QDQ graph runs without optimizations.

    A failed run ends the worker, and the next run loads the model again.
    """

    def __init__(self, prepared: PreparedSource, device: Device, timeout_s: float) -> None:
        self._prepared, self._device, self._timeout_s = prepared, device, timeout_s
        self._runner: Runner | None = None

    def __enter__(self) -> "ReferenceRuns":
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def run(self, stack: Stack) -> dict[str, Array]:
        """Return the outputs for every entry of the stack.

        Raises LimitReached after the model's time limit, which may be less than the timeout.
        """
        model = self._prepared.given
        budget = read_budget().for_files(model.bytes)
        least = min(self._timeout_s, budget.seconds)
        options = WITHOUT_OPTIMIZATION if model.format == "onnx" and model.precision in QDQ_PRECISIONS else {}
        runtime = REFERENCE_RUNTIMES[model.format]
        try:
            if self._runner is None:
                self._runner = Runner(
                    model,
                    None,
                    runtime,
                    self._device,
                    options=options,
                    timeout_s=least,
                    variables=self._prepared.variables,
                )
            return self._runner.run(_add_fixed(stack, self._prepared.fixed))
        except BaseException as error:
            self._end()
            if isinstance(error, WorkerTimeout) and least != self._timeout_s:
                raise budget.time_error(f"computing the reference outputs of {self._prepared.name}") from None
            raise

    def _end(self) -> None:
        if self._runner is not None:
            self._runner.end()
            self._runner = None


@contextmanager
def _explain_errors(prepared: PreparedSource) -> Iterator[None]:
    """Name the given file in errors, and the sizes that it does not fix."""
    try:
        yield
    except LimitReached as error:
        error.what = error.what.replace(Path(prepared.given.path).name, prepared.name)
        raise
    except WorkerTimeout:
        raise
    except (ModelRejected, WorkerError) as error:
        if not prepared.overridden:
            raise
        what = f"{prepared.name} does not run with these sizes: {prepared.overridden}"
        raise InputError(what, error.why, "keep the sizes that the file fixes, or export it with these") from error


def run_reference(prepared: PreparedSource, stack: Stack, device: Device, timeout_s: float) -> dict[str, Array]:
    """Return the source's outputs for the stacked inputs; see `ReferenceRuns.run`."""
    with ReferenceRuns(prepared, device, timeout_s) as runs, _explain_errors(prepared):
        return runs.run(stack)


def make_reference(prepared: PreparedSource, plan: CompilePlan, device: Device) -> CheckReference:
    """Return the inputs of the check, the user's or seeded ones, and the source's outputs.

    Seeded samples on which the source fails, overflows, or amplifies rounding are replaced by plain ones.

    Raises the errors of `ReferenceRuns.run`, and InputError for inputs that do not fit.
    """
    if not plan.check:
        return CheckReference({}, ())
    signature, graph = prepared.model.signature, _read_graph(prepared)
    parts = find_parts(graph) if graph else {}
    if plan.inputs is not None:
        feeds = read_feeds(Path(plan.inputs), signature)
        stack = {name: array[np.newaxis] for name, array in feeds.items()}
        roles: Mapping[str, IntegerRole] = {}
    else:
        check_size(signature, prepared.shapes, plan.samples)
        roles = find_roles(graph) if graph else {}
        kinds = list_kinds(signature, roles, plan.samples)
        stack = _draw_plain(prepared, plan, kinds.count("plain"), roles)
    with ReferenceRuns(prepared, device, plan.timeout_s) as runs, _explain_errors(prepared):
        try:
            outputs = runs.run(stack)
        except (ModelRejected, WorkerError):
            if not roles:
                raise
            roles, kinds = {}, ("plain",) * plan.samples
            stack = _draw_plain(prepared, plan, plan.samples, roles)
            outputs = runs.run(stack)
        reference = _find_random(
            CheckReference(stack, ("plain",) * _count(stack), outputs, parts=parts), runs, prepared
        )
        if plan.inputs is None and reference.outputs:
            for number, kind in enumerate(kinds):
                if kind != "plain":
                    reference = _add_special(reference, kind, plan.seed + number, runs, (prepared, roles))
    return reference


def _count(stack: Stack) -> int:
    return len(next(iter(stack.values()))) if stack else 1


def _read_graph(prepared: PreparedSource) -> TypedGraph | None:
    """Return the typed graph if integer inputs or parts of outputs depend on it; None if it cannot be read."""
    model = prepared.model
    if model.format != "onnx":
        return None
    if all(spec.dtype not in DTYPES for spec in model.signature.inputs) and not _is_joined(prepared):
        return None
    try:
        return read_onnx_graph(Path(model.path), prepared.shapes)
    except EdgewrightError:
        return None


def _is_joined(prepared: PreparedSource) -> bool:
    """Return whether a Concat makes an output, without the shapes that `find_parts` needs."""
    producers = find_producers(read_graph(Path(prepared.model.path), "onnx"))
    for output in prepared.model.signature.outputs:
        node = producers.get(output.name)
        while node is not None and node.op in CARRYING and node.inputs:
            node = producers.get(node.inputs[0])
        if node is not None and node.op == "Concat":
            return True
    return False


def _draw_plain(
    prepared: PreparedSource, plan: CompilePlan, count: int, roles: Mapping[str, IntegerRole]
) -> dict[str, Array]:
    signature, stack = prepared.model.signature, dict[str, Array]()
    for i in range(count):
        for name, array in draw_sample(signature, prepared.shapes, roles, "plain", plan.seed + i).items():
            stack.setdefault(name, np.empty((count, *array.shape), array.dtype))[i] = array
    return stack


def _find_random(reference: CheckReference, runs: ReferenceRuns, prepared: PreparedSource) -> CheckReference:
    """Return the reference without the outputs that differ when the first sample runs again."""
    first = {name: array[:1] for name, array in reference.stack.items()}
    again = runs.run(first)
    kept, notes = {}, []
    shapes = {name: array.shape[1:] for name, array in reference.outputs.items()}
    for name, array in reference.outputs.items():
        if _is_equal(array[:1], again[name]):
            kept[name] = array
        else:
            notes.append(
                f"output '{name}' was not compared: the source computes other values for the same input"
                + _name_random_nodes(prepared, name)
            )
    return reference._replace(outputs=kept, shapes=shapes, notes=tuple(notes))


def _is_equal(a: Array, b: Array) -> bool:
    return a.shape == b.shape and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")


def _name_random_nodes(prepared: PreparedSource, output: str) -> str:
    graph = read_graph(Path(prepared.given.path), prepared.given.format)
    upstream = find_upstream([output], find_producers(graph))
    found = [f"{node.op} '{node.name}'" for node in upstream if node.op.startswith(("Random", "RANDOM", *RANDOM_OPS))]
    return f" ({', '.join(found[:4])})" if found else ""


def _add_special(
    reference: CheckReference,
    kind: str,
    seed: int,
    runs: ReferenceRuns,
    source: tuple[PreparedSource, Mapping[str, IntegerRole]],
) -> CheckReference:
    """Add a sample of this kind, or a plain one if the source does not compute it reliably."""
    prepared, roles = source
    signature, shapes = prepared.model.signature, prepared.shapes
    exponents = LARGE_EXPONENTS if kind == "large" else LARGE_EXPONENTS[:1]
    attempts = [(kind, exponent) for exponent in exponents] + [("plain", exponents[0])]
    for own, exponent in attempts:
        sample = draw_sample(signature, shapes, roles, own, seed, exponent=exponent)
        stacked = {name: array[np.newaxis] for name, array in sample.items()}
        try:
            outputs = runs.run(stacked)
            if own == "plain" or _is_reliable(outputs, own, stacked, reference, runs):
                return _append(reference, stacked, outputs, own)
        except (ModelRejected, WorkerError, ValueError):  # another size of an output, or an index out of range
            continue
    return reference


def _is_reliable(outputs: Stack, kind: str, sample: Stack, reference: CheckReference, runs: ReferenceRuns) -> bool:
    """Return whether the source's outputs are finite, and hardly change with its inputs where these are unusual."""
    compared = {name: outputs[name] for name in reference.outputs}
    if not all(np.isfinite(array).all() for array in compared.values() if array.dtype.kind == "f"):
        return False
    if any(array.shape[1:] != reference.shapes[name] for name, array in compared.items()):
        return False
    if kind not in ("large", "tiny"):
        return True
    changed = runs.run(nudge(sample))
    both = {name: np.concatenate([array, reference.outputs[name]]) for name, array in compared.items()}
    nudged = {name: np.concatenate([changed[name], reference.outputs[name]]) for name in compared}
    plain = ("plain",) * len(reference.kinds)
    return compare_outputs(both, nudged, None, (kind, *plain)).sqnr_db >= STABLE_DB


def _append(reference: CheckReference, sample: Stack, outputs: Stack, kind: str) -> CheckReference:
    stack = {name: np.concatenate([array, sample[name]]) for name, array in reference.stack.items()}
    results = {name: np.concatenate([array, outputs[name]]) for name, array in reference.outputs.items()}
    return reference._replace(stack=stack, outputs=results, kinds=(*reference.kinds, kind))


def _add_fixed(stack: Stack, fixed: Mapping[str, Array]) -> dict[str, Array]:
    """Return the stacked inputs with the fixed values, repeated for every entry."""
    count = _count(stack)
    return {**stack, **{name: np.broadcast_to(array, (count, *array.shape)) for name, array in fixed.items()}}
