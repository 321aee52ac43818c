"""Profiling of each operator alone, cut out as a model of one operator.

The times are those of an operator with warm caches and without its neighbors: they show which operators are
slow, not the exact time of each in the model.
"""

from collections.abc import Iterator, Mapping
from copy import copy
from importlib.metadata import version
from pathlib import Path
from time import perf_counter_ns
from typing import Any

from numpy.typing import NDArray

from edgewright.formats.tflite.reader import read_tflite
from edgewright.runtimes.contract import Rejected
from edgewright.runtimes.litert.profiling.trace import CUT_OUT, CutOut, LiteRtTrace, ProfiledRun, write_trace
from edgewright.runtimes.litert.session import LiteRtSession, is_delegated, map_tensor_details
from edgewright.runtimes.wire import SessionRequest

WARMUP_RUNS = 3


def write_cut_outs(
    request: SessionRequest,
    feeds: Mapping[str, NDArray[Any]],
    runs: int,
    folder: Path,
    *,
    reason: str,
    seconds: float,
) -> None:
    """Write a trace of cut-outs to `folder`, without operators that cannot run alone.

    `reason` says why the C API was not used; fewer runs are made if all would take longer than about `seconds`.
    """
    graph = read_tflite(Path(request.model))
    whole = _time_whole_model(request, feeds, runs, seconds / 4)
    share_s = seconds / 2 / max(len(graph.operators), 1)
    trace = LiteRtTrace(
        via=CUT_OUT,
        reason=reason,
        version=version("ai-edge-litert"),
        delegate=request.options.get("delegate", "xnnpack"),
        threads=request.threads,
        operators=tuple(operator.op for operator in graph.operators),
        runs=tuple(ProfiledRun(whole_ns=time_ns, events=()) for time_ns in whole),
        cut_outs=tuple(_time_cut_outs(request, feeds, runs, share_s)),
    )
    write_trace(trace, folder)


def _time_whole_model(
    request: SessionRequest, feeds: Mapping[str, NDArray[Any]], runs: int, seconds: float
) -> tuple[int, ...]:
    session = LiteRtSession(request)
    session.bind(feeds)
    return _time_runs(session.run, runs, seconds)


def _time_runs(run: Any, runs: int, seconds: float) -> tuple[int, ...]:
    """Return the times of up to `runs` calls in ns, begun within `seconds`; at least one."""
    for _ in range(WARMUP_RUNS):
        run()
    times: list[int] = []
    deadline = perf_counter_ns() + int(seconds * 1e9)
    while len(times) < runs and (not times or perf_counter_ns() < deadline):
        begin = perf_counter_ns()
        run()
        times.append(perf_counter_ns() - begin)
    return tuple(times)


def _time_cut_outs(
    request: SessionRequest, feeds: Mapping[str, NDArray[Any]], runs: int, share_s: float
) -> Iterator[CutOut]:
    """Yield the operators that can run alone, each with up to `share_s` seconds of runs."""
    values = _open_whole_model(request, feeds)
    for position, content in enumerate(_iterate_cut_out_models(request, values)):
        if content is None:
            continue
        try:
            yield _time_cut_out(request, content, values, position, runs, share_s)
        except (ValueError, RuntimeError, TypeError):
            continue  # LiteRT rejects the operator alone, for example one with a state


def _time_cut_out(
    request: SessionRequest, content: bytes, values: Any, position: int, runs: int, share_s: float
) -> CutOut:
    interpreter = _open_content(content, request, keep=False)
    interpreter.allocate_tensors()
    for detail in interpreter.get_input_details():
        # Tensor names in the cut-out are indices in the whole model.
        interpreter.set_tensor(detail["index"], values.get_tensor(int(detail["name"])))
    return CutOut(
        position=position,
        delegated=is_delegated(interpreter),
        times_ns=_time_runs(interpreter.invoke, runs, share_s),
    )


def _open_content(model: bytes | Path, request: SessionRequest, *, keep: bool) -> Any:
    """Return an interpreter of a file or of bytes; with `keep` it keeps all intermediate tensors and uses no
    delegate.
    """
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    plain = keep or request.options.get("delegate", "xnnpack") == "none"
    return Interpreter(
        model_path=str(model) if isinstance(model, Path) else None,
        model_content=None if isinstance(model, Path) else model,
        num_threads=request.threads,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        if plain
        else OpResolverType.AUTO,
        experimental_preserve_all_tensors=keep,
    )


def _open_whole_model(request: SessionRequest, feeds: Mapping[str, NDArray[Any]]) -> Any:
    """Return the whole model after one inference with all tensors kept, which are the cut-outs' inputs."""
    interpreter = _open_content(Path(request.model), request, keep=True)
    inputs, _ = map_tensor_details(interpreter)
    for name, shape in request.shapes.items():
        interpreter.resize_tensor_input(inputs[name]["index"], shape)
    try:
        interpreter.allocate_tensors()
        for name, detail in inputs.items():
            interpreter.set_tensor(detail["index"], feeds[name])
        interpreter.invoke()
    except (ValueError, RuntimeError) as error:
        raise Rejected(str(error)) from error
    return interpreter


def _iterate_cut_out_models(request: SessionRequest, values: Any) -> Iterator[bytes | None]:
    """Yield for each operator of the main subgraph a model with this operator alone, or None if that is impossible."""
    from ai_edge_litert import schema_py_generated as schema

    content = bytearray(Path(request.model).read_bytes())
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
    for operator in model.subgraphs[0].operators:
        yield _cut_out_operator(schema, model, operator, values)


def _cut_out_operator(schema: Any, model: Any, operator: Any, values: Any) -> bytes | None:
    """Return the bytes of a model with this operator alone; None if it calls subgraphs or has a state."""
    graph = model.subgraphs[0]
    used = sorted({int(i) for i in (*operator.inputs, *operator.outputs) if i >= 0})
    if _calls_subgraph(operator) or any(graph.tensors[i].isVariable for i in used):
        return None
    place = {old: new for new, old in enumerate(used)}
    buffers = [schema.BufferT()]
    tensors = [_copy_tensor(model, graph.tensors[i], i, buffers, values) for i in used]
    alone = copy(operator)
    alone.opcodeIndex = 0
    alone.inputs = [place.get(int(i), -1) for i in operator.inputs]
    alone.outputs = [place[int(i)] for i in operator.outputs]
    fed = [place[int(i)] for i in dict.fromkeys(operator.inputs) if i >= 0 and not tensors[place[int(i)]].buffer]
    return _pack_model(schema, model.operatorCodes[operator.opcodeIndex], alone, tensors, buffers, fed)


def _calls_subgraph(operator: Any) -> bool:
    """Return whether the operator's options refer to a subgraph, like those of IF, WHILE and CALL_ONCE."""
    options = (operator.builtinOptions, operator.builtinOptions2)
    return any("subgraphindex" in name.lower() for option in options if option is not None for name in vars(option))


def _copy_tensor(model: Any, tensor: Any, index: int, buffers: list[Any], values: Any) -> Any:
    """Return the tensor with its weights, its index as name, and its size in this inference."""
    copied = copy(tensor)
    copied.name = str(index).encode()
    copied.shape = [int(size) for size in values._get_tensor_details(index, 0)["shape"]]
    copied.shapeSignature = None
    copied.buffer = 0
    data = model.buffers[tensor.buffer].data
    if data is not None and len(data):
        copied.buffer = len(buffers)
        buffers.append(model.buffers[tensor.buffer])
    return copied


def _pack_model(
    schema: Any, code: Any, operator: Any, tensors: list[Any], buffers: list[Any], inputs: list[int]
) -> bytes:
    import flatbuffers  # type: ignore[import-untyped]  # comes with ai-edge-litert

    graph = schema.SubGraphT()
    graph.tensors, graph.operators = tensors, [operator]
    graph.inputs, graph.outputs = inputs, list(operator.outputs)
    model = schema.ModelT()
    model.version, model.operatorCodes, model.subgraphs, model.buffers = 3, [code], [graph], buffers
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())
