"""Functions that an ONNX model defines itself, and operators that ONNX defines by others.

Operators are counted before functions are inlined: each function may call others several times, so that a model of a
kilobyte can expand to billions of operators.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from itertools import chain
from typing import Any

from edgewright.errors import ModelUnreadable
from edgewright.formats.onnx.attributes import OWN_DOMAINS, iterate_subgraphs, keep_only, read_opset
from edgewright.limits import ResourceBudget, read_budget

Key = tuple[str, str, str]  # domain, name and overload of a function
Weigh = Callable[[Any], int]

MOST_BODIES = 3  # definitions may have operators with definitions
MOST = 10**15  # counting ends here
OPERATOR_BYTES = 7_500  # measured memory of one operator while a model is read and checked


def inline_functions(model: Any, budget: ResourceBudget | None = None) -> Any:
    """Return the model with the bodies of its functions in place of the calls.

    Raises:
        LimitReached: the operators would take more memory than the budget.
        ModelUnreadable: functions call each other in a cycle, or onnx cannot inline them.
    """
    _check_operators(model, budget or read_budget())
    if not model.functions:
        return model
    import onnx.inliner

    try:
        return onnx.inliner.inline_local_functions(model)
    except Exception as error:  # onnx's own classes
        raise ModelUnreadable("the model's functions cannot be inlined", str(error)[:300]) from None


def expand_operators(model: Any, is_wanted: Callable[[str], bool]) -> Any:
    """Return the model with ONNX's own operators of some names replaced by ONNX's definition, if there is one.

    It is unchanged if onnx fails; the operators are then rejected by name.
    """
    import onnx.inliner

    make_value = onnx.helper.make_tensor_value_info
    for _ in range(MOST_BODIES):
        schemas = _find_definitions(model, is_wanted)
        if not schemas:
            break
        _add_defaults(model.graph, schemas)
        # Definitions depend on the types of their inputs, including weights and absent inputs.
        values = [make_value(tensor.name, tensor.data_type, tensor.dims) for tensor in model.graph.initializer]
        model.graph.value_info.extend([*values, make_value("", onnx.TensorProto.FLOAT, [])])
        try:
            selected = [("", op) for op in schemas]
            model = onnx.inliner.inline_selected_functions(model, selected, inline_schema_functions=True)
        except Exception:  # onnx's own classes
            break
    keep_only(model.graph.value_info, [value for value in model.graph.value_info if value.name])
    return model


def _find_definitions(model: Any, is_wanted: Callable[[str], bool]) -> dict[str, Any]:
    """Return the schemas of the operators that ONNX defines by others."""
    from onnx import defs

    found = {}
    for op in sorted({node.op_type for node in model.graph.node if node.domain in OWN_DOMAINS}):
        with suppress(defs.SchemaError, TypeError):  # TypeError: the version is beyond a C++ int
            schema: Any = defs.get_schema(op, read_opset(model), "") if is_wanted(op) else None
            if schema and (schema.has_function or schema.has_context_dependent_function):
                found[op] = schema
    return found


def _add_defaults(graph: Any, schemas: Mapping[str, Any]) -> None:
    """Write default attributes explicitly, since onnx's inliner drops those within a definition."""
    for node in graph.node:
        if node.domain in OWN_DOMAINS and node.op_type in schemas:
            given = {attribute.name for attribute in node.attribute}
            for name, attribute in schemas[node.op_type].attributes.items():
                if name not in given and attribute.default_value.type:
                    node.attribute.append(attribute.default_value)


def _check_operators(model: Any, budget: ResourceBudget) -> None:
    """Raise LimitReached if the operators, and the constants that calls copy, take more memory than the budget."""
    count = count_operators(model)
    written_out = " (with its functions inlined)" if model.functions else ""
    needed = count * OPERATOR_BYTES + (_count_copies(model) if model.functions else 0)
    budget.check_bytes(needed, f"a graph of {count} operators{written_out}", "export it in several models")


def count_operators(model: Any) -> int:
    """Count the operators of the main graph and its subgraphs, with those of each function call."""
    return _add_up(model, lambda node: 1)


def _count_copies(model: Any) -> int:
    """Count the bytes of constants that inlining adds to those in the file."""
    own = sum(map(_constant_bytes, chain(_nodes_of(model.graph), *map(_nodes_of, model.functions))))
    return max(0, _add_up(model, _constant_bytes) - own)


def _constant_bytes(node: Any) -> int:
    """Return the bytes of an operator's own tensors."""
    return sum(attribute.t.ByteSize() for attribute in node.attribute if attribute.HasField("t"))


def _add_up(model: Any, weigh: Weigh) -> int:
    """Sum the weights of the operators, with those of each function call."""
    bodies = {_key_of(one, one.name): one for one in model.functions}
    counts: dict[Key, int] = {}
    for key in bodies:
        _count_calls(key, bodies, counts, weigh)
    calls = ((_key_of(node, node.op_type), node) for node in _nodes_of(model.graph))
    return sum(counts[call] if call in counts else weigh(node) for call, node in calls)


def _count_calls(start: Key, bodies: dict[Key, Any], counts: dict[Key, int], weigh: Weigh) -> None:
    """Add a function's weight to `counts`, after those of the functions that it calls.

    It is not recursive, since a chain of functions may be very long.
    """
    open_calls: list[Key] = [start]
    begun: set[Key] = set()
    while open_calls:
        key = open_calls[-1]
        if key in counts:
            open_calls.pop()
            continue
        calls = [(_key_of(node, node.op_type), node) for node in _nodes_of(bodies[key])]
        waiting = [call for call, _ in calls if call in bodies and call not in counts]
        if not waiting:
            counts[key] = min(sum(counts[call] if call in counts else weigh(node) for call, node in calls), MOST)
        elif key in begun:
            raise ModelUnreadable(f"the model's function {key[1][:200]} calls itself", "ONNX does not allow recursion")
        else:
            begun.add(key)
            open_calls += dict.fromkeys(waiting)


def _key_of(one: Any, name: str) -> Key:
    """Return the key by which a call finds its function."""
    domain = "" if one.domain in OWN_DOMAINS else one.domain
    return domain, name, getattr(one, "overload", "")


def _nodes_of(graph: Any) -> Iterator[Any]:
    """Find the nodes of a graph or function, and of the graphs within them."""
    for node in graph.node:
        yield node
        for inner in iterate_subgraphs(node):
            yield from _nodes_of(inner)
