"""Per-operator times from OpenVINO's own counters; runs in the worker.

The CPU plug-in sums the time of every operator since the model was compiled, each execution truncated to whole
microseconds, and reports the sum divided by the number of inferences, truncated again. So a single inference is not
visible. The runs are split into blocks, each on a freshly compiled model: the short history keeps the second truncation
small, and the spread between the blocks is real. Other devices report the times of the last inference.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from time import perf_counter_ns
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

from edgewright.runtimes.openvino.library import make_core
from edgewright.runtimes.openvino.session import OpenvinoSession, list_execution_devices, read_model
from edgewright.runtimes.wire import SessionRequest
from edgewright.schema.arrays import Array

RAN = "ran.json"
WARMUP_RUNS = 2
BLOCK_RUNS = 3  # fewer increase the truncation error of a sample, more increase the effect of one disturbance
MOST_BLOCKS = 10
# Inputs and outputs are no work; fused operators are not in the executed graph.
NO_WORK = ("Input", "Output", "Parameter", "Result")


class ExecutedOperator(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An operator of the graph that the device runs.

    Attributes:
        kind: the device's name of the operator type.
        primitive: the kernel with its precision, such as `brgconv_avx512_f32`.
        originals: comma-separated names of the file's operators that it computes; names may contain commas.
        readers: positions of the executed operators that read its outputs.
        samples_us: mean time of one inference in each block, or the time in each inference.
    """

    name: str
    kind: str
    primitive: str
    originals: str
    readers: tuple[int, ...]
    samples_us: tuple[float, ...] = ()


class OpenvinoOperator(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An operator of the file; `readers` has the positions of the operators that read its outputs."""

    name: str
    tensors: tuple[str, ...]
    readers: tuple[int, ...]


class OpenvinoProfile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The result of a profiling pass. `wholes_us` has wall times of whole inferences, sampled like the operators'
    times."""

    asked: str
    device: str
    wholes_us: tuple[float, ...]
    executed: tuple[ExecutedOperator, ...]
    operators: tuple[OpenvinoOperator, ...]


class InferenceSample(NamedTuple):
    """Microseconds of a whole inference and of each operator in it."""

    whole: float
    operators: list[float]


def profile_operators(request: SessionRequest, feeds: Mapping[str, Array], runs: int, folder: Path) -> None:
    """Write `ran.json` to `folder`."""
    core = make_core()
    model = read_model(core, request)
    operators = _read_operators(model)
    samples: list[InferenceSample] = []
    for size in split_runs(runs):
        session = OpenvinoSession(core, model, request, count=True)
        session.bind(feeds)
        device, executed = list_execution_devices(session.compiled)[0], _read_executed(session.compiled)
        samples += run_block(session, device, [one.name for one in executed], size)
        session.close()
    requested = request.options.get("device", "CPU")
    ran = OpenvinoProfile(
        asked=device if requested == "AUTO" else requested,
        device=device,
        wholes_us=tuple(sample.whole for sample in samples),
        executed=tuple(_with_samples(executed, samples)),
        operators=operators,
    )
    (folder / RAN).write_bytes(msgspec.json.encode(ran))


def _with_samples(
    executed: Sequence[ExecutedOperator], samples: Sequence[InferenceSample]
) -> Iterator[ExecutedOperator]:
    """Yield the operators with the samples of all blocks, which compile to the same operators in the same order, with
    names numbered anew."""
    for one, times in zip(executed, zip(*(sample.operators for sample in samples), strict=True), strict=True):
        yield msgspec.structs.replace(one, samples_us=times)


def split_runs(runs: int) -> list[int]:
    """Return block sizes that differ by one at most."""
    count = min(max(runs // BLOCK_RUNS, 1), MOST_BLOCKS)
    return [runs // count + (1 if i < runs % count else 0) for i in range(count)]


def run_block(session: OpenvinoSession, device: str, names: Sequence[str], size: int) -> Iterator[InferenceSample]:
    """Run `size` inferences after the warm-up: one sample of all on a CPU, one of each on other devices."""
    for _ in range(WARMUP_RUNS):
        session.run()
    if not device.startswith("CPU"):
        for _ in range(size):
            yield InferenceSample(_time_run(session), _read_counters(session, names))
        return
    before = restore_sums(_read_counters(session, names), WARMUP_RUNS)
    whole_times = [_time_run(session) for _ in range(size)]
    after = restore_sums(_read_counters(session, names), WARMUP_RUNS + size)
    times = [max(end - begin, 0.0) / size for begin, end in zip(before, after, strict=True)]
    yield InferenceSample(sum(whole_times) / size, times)


def _time_run(session: OpenvinoSession) -> float:
    begin = perf_counter_ns()
    session.run()
    return (perf_counter_ns() - begin) / 1e3


def restore_sums(means: Sequence[float], count: int) -> list[float]:
    """Return the sums of means that were truncated to whole microseconds: the middle of the possible values."""
    return [mean * count + (count - 1) / 2 if mean else 0.0 for mean in means]


def _read_counters(session: OpenvinoSession, names: Sequence[str]) -> list[float]:
    """Return OpenVINO's time of each operator in microseconds, 0 for one below a microsecond.

    Of operators with the same name, the first in the counters is the first in the graph.
    """
    counters: dict[str, list[float]] = {}
    for info in session.request.get_profiling_info():
        counters.setdefault(info.node_name, []).append(info.real_time.total_seconds() * 1e6)
    left = {name: iter(times) for name, times in counters.items()}
    return [next(left.get(name, iter(())), 0.0) for name in names]


def _read_executed(compiled: Any) -> list[ExecutedOperator]:
    """Return the operators of the executed graph that do work, in execution order."""
    found: list[tuple[int, Any, dict[str, str]]] = []
    constant: set[str] = set()
    for op in compiled.get_runtime_model().get_ordered_ops():
        facts = {key: str(getattr(value, "value", value)) for key, value in op.get_rt_info().items()}
        kind = facts.setdefault("layerType", op.get_type_name())
        if _is_constant(op, kind, constant):
            constant.add(op.get_name())
        elif kind not in NO_WORK:
            found.append((int(facts.get("execOrder", "0")), op, facts))
    found.sort(key=lambda each: each[0])
    places = {op.get_name(): place for place, (_, op, _) in enumerate(found)}
    return [
        ExecutedOperator(
            name=op.get_friendly_name(),
            kind=facts["layerType"],
            primitive=facts.get("primitiveType", ""),
            originals=facts.get("originalLayersNames", ""),
            readers=_find_readers(op, places),
        )
        for _, op, facts in found
    ]


def _is_constant(op: Any, kind: str, constant: Collection[str]) -> bool:
    """Return whether it is computed once, when the model is loaded, from constants only."""
    inputs = [op.input_value(i).get_node().get_name() for i in range(op.get_input_size())]
    return kind == "Const" or (bool(inputs) and all(name in constant for name in inputs))


def _find_readers(op: Any, places: Mapping[str, int]) -> tuple[int, ...]:
    names = {to.get_node().get_name() for port in op.outputs() for to in port.get_target_inputs()}
    return tuple(sorted(places[name] for name in names if name in places))


def _read_operators(model: Any) -> tuple[OpenvinoOperator, ...]:
    ops = model.get_ordered_ops()
    places = {op.get_name(): place for place, op in enumerate(ops)}  # OpenVINO's own names are unique
    return tuple(
        OpenvinoOperator(
            name=op.get_friendly_name(),
            tensors=tuple(sorted({name for port in op.outputs() for name in port.get_names()})),
            readers=_find_readers(op, places),
        )
        for op in ops
    )
