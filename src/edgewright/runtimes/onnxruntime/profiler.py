"""Per-operator times from ONNX Runtime's own profiler; runs in the worker."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import msgspec
from msgspec import Struct

from edgewright.runtimes.onnxruntime.session import OnnxSession, choose_provider, load_session, make_session_options
from edgewright.runtimes.wire import SessionRequest
from edgewright.schema.arrays import Array

WARMUP_RUNS, WARMUP_NS = 10, 500_000_000
TRACE, RAN = "trace.json", "ran.json"
EXTERNAL_FILE = "optimized.data"
EXTERNAL_FOLDER = "session.model_external_initializers_file_folder_path"


class ExecutedNode(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A node of ONNX Runtime's optimized graph.

    Empty names in `inputs` are absent optional inputs; `activation` is the operator fused into it.
    """

    name: str
    op: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    activation: str = ""


class OnnxruntimeProfile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Data that the trace does not contain.

    `runs_us` are the wall times of the profiled inferences, after `warmup` unprofiled-for-statistics ones.
    """

    provider: str
    warmup: int
    runs_us: tuple[float, ...]
    nodes: tuple[ExecutedNode, ...]


def profile_operators(request: SessionRequest, feeds: Mapping[str, Array], runs: int, folder: Path) -> None:
    """Write `trace.json`, the profiler's own file, and `ran.json` to `folder`.

    The optimized graph is written as well, since its node names alone do not identify the source nodes. Nodes
    without a name are named before, since the trace numbers them differently from other files.
    """
    options = make_session_options(request)
    options.enable_profiling = True
    options.profile_file_prefix = str(folder / "profile")
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    options.add_session_config_entry("session.optimized_model_external_initializers_file_name", EXTERNAL_FILE)
    raw = load_session(request, options, _name_nodes(Path(request.model), options))
    warmup, runs_us = _time_profiled(OnnxSession(raw, request), feeds, runs)
    Path(raw.end_profiling()).replace(folder / TRACE)
    nodes = tuple(_read_nodes(folder / "optimized.onnx"))
    ran = OnnxruntimeProfile(provider=choose_provider(request.options), warmup=warmup, runs_us=runs_us, nodes=nodes)
    (folder / RAN).write_bytes(msgspec.json.encode(ran))


def _name_nodes(path: Path, options: Any) -> bytes | None:
    """Return the model with `OP#position` as the name of each nameless node, like `formats.onnx` for the source
    graph.

    None if every node has a name, or if the file has an error that ONNX Runtime will report.
    """
    import onnx

    try:
        model: Any = onnx.load(str(path), load_external_data=False)
    except Exception:
        return None
    nodes = model.graph.node
    names = {node.name for node in nodes}
    for position, node in enumerate(nodes):
        name = f"{node.op_type}#{position}"
        if not node.name and name not in names:
            node.name = name
    if "" not in names:
        return None
    options.add_session_config_entry(EXTERNAL_FOLDER, str(path.parent))
    return bytes(model.SerializeToString())


def _time_profiled(session: OnnxSession, feeds: Mapping[str, Array], runs: int) -> tuple[int, tuple[float, ...]]:
    """Return the number of warm-up inferences, and the microseconds of those after them."""
    session.bind(feeds)
    warmup, deadline = 0, perf_counter_ns() + WARMUP_NS
    while warmup < min(WARMUP_RUNS, runs) and perf_counter_ns() < deadline:
        session.run()
        warmup += 1
    times = []
    for _ in range(runs):
        begin = perf_counter_ns()
        session.run()
        times.append((perf_counter_ns() - begin) / 1e3)
    return warmup, tuple(times)


def _read_nodes(path: Path) -> Iterable[ExecutedNode]:
    import onnx

    model: Any = onnx.load(str(path), load_external_data=False)
    for node in model.graph.node:
        yield ExecutedNode(
            name=node.name,
            op=node.op_type,
            domain=node.domain,
            inputs=tuple(node.input),
            outputs=tuple(node.output),
            activation=next((a.s.decode() for a in node.attribute if a.name == "activation"), ""),
        )
    path.unlink()
    (path.parent / EXTERNAL_FILE).unlink(missing_ok=True)
