"""Custom operators of a compile: built once, checked against the model, and handed to its workers."""

from pathlib import Path
from typing import Any

import msgspec

from edgewright.errors import ConfigError
from edgewright.flows.compile.sources import PreparedSource
from edgewright.formats.onnx.attributes import iterate_subgraphs, read_value
from edgewright.formats.onnx.reader import open_model
from edgewright.kernels.custom.description import CustomOperator
from edgewright.kernels.custom.folder import OperatorsFile

STANDARD = ("", "ai.onnx", "com.microsoft", "com.ms", "org.pytorch")  # domains, and those below them
MAX_NAMED = 5


def add_operators(prepared: PreparedSource, given: OperatorsFile, work: Path) -> PreparedSource:
    """Return the source with the file that its workers read.

    Raises ConfigError if no node of the model has one of these operators, or one has other attributes.
    """
    if "onnx" not in prepared.files:
        why = f"the model's format is {prepared.format}; custom operators are those of ONNX"
        raise ConfigError("--custom-ops cannot be used with this model", why, "remove it")
    nodes, known = _list_nodes(Path(prepared.files["onnx"])), {one.key: one for one in given.operators}
    used, keys = list(dict.fromkeys(map(_get_key, nodes))), list(known)
    if not set(keys) & set(used):
        own = [key for key in used if not _is_standard(key)]
        has = f"it has {', '.join(own[:MAX_NAMED])}" if own else "all its operators are standard ones"
        raise ConfigError(
            f"{prepared.name} has no operator of {given.reference}",
            f"the folder describes {', '.join(keys[:MAX_NAMED])}; {has}",
            "correct name and domain in operators.toml" if own else "remove --custom-ops",
        )
    for node in nodes:
        if (key := _get_key(node)) in known and (fault := _find_attribute_fault(node, known[key])):
            what = f"{prepared.name} has an attribute of {key} that operators.toml lacks"
            raise ConfigError(what, f"in node '{node.name}' {fault}", "correct attributes in operators.toml")
    path = (work / "operators.json").absolute()
    path.write_bytes(msgspec.json.encode(given))
    return prepared._replace(operators=path, operators_sha256=given.sha256)


def _list_nodes(path: Path) -> list[Any]:
    """Return the nodes of a model, of its functions and of their subgraphs, without calls of these functions."""
    with open_model(path) as (model, _):
        local = {f"{function.domain}:{function.name}" for function in model.functions}
        waiting = [*model.graph.node, *(node for function in model.functions for node in function.node)]
        found = []
        while waiting:
            node = waiting.pop(0)
            waiting += [inner for graph in iterate_subgraphs(node) for inner in graph.node]
            if _get_key(node) not in local:
                found.append(node)
        return found


def _get_key(node: Any) -> str:
    return f"{node.domain}:{node.op_type}"


def _find_attribute_fault(node: Any, operator: CustomOperator) -> str:
    """Return the first attribute that the operator would not get as the model has it; empty if there is none."""
    for attribute in node.attribute:
        value, default = read_value(attribute), operator.attributes.get(attribute.name)
        if default is None:
            return f"'{attribute.name}' is not described"
        if type(value) is not type(default):
            return (
                f"'{attribute.name}' is {type(value).__name__}, but its default {default} is {type(default).__name__}"
            )
    return ""


def _is_standard(key: str) -> bool:
    domain = key.partition(":")[0]
    return any(domain == one or (one and domain.startswith(f"{one}.")) for one in STANDARD)
