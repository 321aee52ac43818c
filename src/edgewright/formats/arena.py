"""Peak memory of the activations that exist at the same time, in the order of the nodes."""

from collections.abc import Iterator, Mapping

from edgewright.formats.typed_graph import TypedGraph, TypedNode

# Operators whose output has the same bytes in another shape.
VIEWS = {"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Dropout", "RESHAPE", "SQUEEZE", "EXPAND_DIMS"}
# Operators that can overwrite their input if it is not read afterwards.
IN_PLACE_OPS = {
    "Relu", "Clip", "Sigmoid", "Tanh", "LeakyRelu", "Elu", "HardSwish", "HardSigmoid", "Gelu", "PRelu", "Abs", "Neg",
    "Exp", "Sqrt", "BatchNormalization", "Add", "Mul", "Sub", "Div", "Erf", "Mish", "Swish", "Softmax",
    "RELU", "RELU6", "LOGISTIC", "TANH", "ADD", "MUL", "SUB", "DIV", "HARD_SWISH", "GELU", "SOFTMAX",
}  # fmt: skip


def find_peak_memory(graph: TypedGraph, unknown: dict[str, str]) -> tuple[int | None, str]:
    """Return the peak of live activations and the node at which it is.

    A value exists from its producer to its last reader, inputs from the start and outputs to the
    end. Views take no memory; elementwise operators overwrite an input of the same size that is not read afterwards.
    """
    home = _assign_buffers(graph)
    buffers = {name: home[name] for name in home}
    free = next((n for n in home.values() if graph.tensors[n].bytes() is None), None)
    if free is not None:
        unknown["arena_bytes"] = f"the size of '{free}' is not known"
        return None, ""
    last = _last_reads(graph, buffers)
    live = sum(graph.tensors[name].bytes() or 0 for name in {buffers[n] for n in graph.inputs if n in buffers})
    peak, at = live, ""
    allocated = {buffers[n] for n in graph.inputs if n in buffers}
    for step, node in enumerate(graph.computing()):
        for name in _fresh_buffers(node, buffers, allocated):
            live += graph.tensors[name].bytes() or 0
        if live > peak:
            peak, at = live, node.name
        for name in last.get(step, ()):
            live -= (graph.tensors[name].bytes() or 0) if name in allocated else 0
    return peak, at


def _fresh_buffers(node: TypedNode, buffers: Mapping[str, str], allocated: set[str]) -> Iterator[str]:
    for name in node.outputs:
        buffer = buffers.get(name)
        if buffer is not None and buffer not in allocated:
            allocated.add(buffer)
            yield buffer


def _assign_buffers(graph: TypedGraph) -> dict[str, str]:
    """Return for each activation the value whose memory it uses: its own, or that of a viewed or overwritten value."""
    home = {name: name for name in graph.inputs if name in graph.tensors and not graph.tensors[name].constant}
    shown = _find_views(graph)
    readers = _last_readers(graph, shown)
    for node in graph.computing():
        home.update({name: name for name in node.outputs if name and name in graph.tensors})
        source = _find_reused_input(graph, node, home, shown, readers)
        if source and node.outputs and node.outputs[0] in home:
            home[node.outputs[0]] = home[source]
    return home


def _find_reused_input(
    graph: TypedGraph, node: TypedNode, home: Mapping[str, str], shown: Mapping[str, str], readers: Mapping[str, str]
) -> str:
    """Return the input whose memory the node's output uses; empty if there is none."""
    activations = [name for name in node.inputs if name in home]
    if _is_view(node):
        return activations[0] if activations else ""
    if node.op not in IN_PLACE_OPS or node.domain or not node.outputs:
        return ""
    result = graph.tensors[node.outputs[0]].bytes()
    kept = {*graph.inputs, *graph.outputs}
    for name in activations:
        of = shown.get(name, name)
        last_use = readers.get(of) == node.name and kept.isdisjoint((name, of, home[name]))
        if last_use and result is not None and graph.tensors[home[name]].bytes() == result:
            return name
    return ""


def _is_view(node: TypedNode) -> bool:
    return node.op in VIEWS and not node.domain


def _find_views(graph: TypedGraph) -> dict[str, str]:
    """Return the base value of each view, through views of views."""
    shown: dict[str, str] = {}
    for node in graph.computing():
        if _is_view(node) and node.inputs and node.outputs:
            shown[node.outputs[0]] = shown.get(node.inputs[0], node.inputs[0])
    return shown


def _last_readers(graph: TypedGraph, shown: Mapping[str, str]) -> dict[str, str]:
    """Return the last reader of each value; readers of a view read its base."""
    found: dict[str, str] = {}
    for node in graph.computing():
        for name in node.inputs:
            found[shown.get(name, name)] = node.name
    return found


def _last_reads(graph: TypedGraph, buffers: Mapping[str, str]) -> dict[int, list[str]]:
    """Return the buffers that are freed after each step, without those of the model's outputs."""
    kept = {buffers[name] for name in graph.outputs if name in buffers}
    ends: dict[str, int] = {}
    for step, node in enumerate(graph.computing()):
        for name in (*node.inputs, *node.outputs):
            if name in buffers:
                ends[buffers[name]] = step
    dying: dict[int, list[str]] = {}
    for name, step in ends.items():
        if name not in kept:
            dying.setdefault(step, []).append(name)
    return dying
