"""Per-operator times from ExecuTorch's event tracer (ETDump), inside of XNNPACK's partitions too."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from time import perf_counter_ns
from typing import Any

from edgewright.runtimes.contract import Rejected, check_feeds
from edgewright.runtimes.executorch.origins import decode_flatbuffer, find_package_folder
from edgewright.runtimes.executorch.session import LoadedMethod, load_method, read_signature, set_threads
from edgewright.runtimes.executorch.trace import ExecutorchEvent, ExecutorchTrace, write_trace
from edgewright.runtimes.wire import SessionRequest
from edgewright.schema.arrays import Array

WARMUP_RUNS = 5
UNNAMED = "primitive"  # an internal instruction of ExecuTorch, such as a view of memory
INFERENCE_EVENT, KERNEL, DELEGATE, NATIVE = "Method::execute", "OPERATOR_CALL", "DELEGATE_CALL", "native_call_"


def profile_operators(request: SessionRequest, feeds: Mapping[str, Array], runs: int, folder: Path) -> None:
    """Write `trace.json` to `folder`."""
    set_threads(request.threads)
    method = load_method(Path(request.model), events=True)
    times = _time_runs(method, feeds, WARMUP_RUNS + runs)
    dump = folder / "events.etdump"
    method.program.write_etdump_result_to_file(str(dump))
    blocks = [events for block in _read_dump(dump) if (events := _read_events(block))]
    dump.unlink()
    if len(blocks) < runs:
        raise Rejected(f"ExecuTorch's tracer reported {len(blocks)} inferences of {WARMUP_RUNS + runs}")
    write_trace(
        ExecutorchTrace(runs_us=tuple(times[-runs:]), runs=tuple(blocks[-runs:]), description=method.description),
        folder,
    )


def _time_runs(method: LoadedMethod, feeds: Mapping[str, Array], count: int) -> list[float]:
    import numpy as np
    import torch

    signature = read_signature(method)
    check_feeds(signature, feeds)
    bound = [torch.from_numpy(np.array(feeds[spec.name], order="C", copy=True)) for spec in signature.inputs]
    times = []
    for _ in range(count):
        method.forward.set_inputs(bound)
        begin = perf_counter_ns()
        method.forward.execute()
        times.append((perf_counter_ns() - begin) / 1e3)
    return times


def _read_dump(path: Path) -> list[Sequence[Mapping[str, Any]]]:
    """Return the profiling events of each block of the dump."""
    folder = find_package_folder() / "devtools" / "etdump"
    schema = (folder / "etdump_schema_flatcc.fbs").read_text()
    others = {"scalar_type.fbs": (folder / "scalar_type.fbs").read_text()}
    decoded = decode_flatbuffer(path.read_bytes(), schema, others, sized=True)
    return [
        [event["profile_event"] for event in block.get("events") or () if event.get("profile_event")]
        for block in decoded["run_data"]
    ]


def _read_events(block: Sequence[Mapping[str, Any]]) -> tuple[ExecutorchEvent, ...]:
    """Return the operators of one inference in execution order; empty for a block that is not an inference."""
    begins = [event["start_time"] for event in block if event.get("name") == INFERENCE_EVENT]
    return tuple(_pick_operators(block, begins[0])) if begins else ()


def _pick_operators(block: Sequence[Mapping[str, Any]], begin: int) -> Iterator[ExecutorchEvent]:
    """Return kernels, operators in delegates, and delegates that report no operators."""
    names = {event["instruction_id"]: event["name"] for event in block if (event.get("name") or "").startswith(NATIVE)}
    inner = {event["instruction_id"] for event in block if event.get("delegate_debug_id_str")}
    for event in block:
        name, instruction = event.get("name") or "", event["instruction_id"]
        if inside := event.get("delegate_debug_id_str"):
            yield _make_event(event, inside, begin, delegate=True)
        elif name == KERNEL:
            yield _make_event(event, names.get(instruction, UNNAMED).removeprefix(NATIVE), begin, delegate=False)
        elif name == DELEGATE and instruction not in inner:
            yield _make_event(event, "partition", begin, delegate=True)


def _make_event(event: Mapping[str, Any], name: str, begin: int, *, delegate: bool) -> ExecutorchEvent:
    return ExecutorchEvent(
        name=name,
        instruction=event["instruction_id"],
        delegate=delegate,
        start=event["start_time"] - begin,
        duration=max(0, event["end_time"] - event["start_time"]),
    )
