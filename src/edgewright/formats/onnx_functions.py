"""Functions that an ONNX model defines itself: counted before they are inlined.

Each function may call others several times, so that a model of a kilobyte can stand for billions of operators.
"""

from collections.abc import Iterator
from typing import Any

from edgewright.errors import ModelUnreadable
from edgewright.limits import Budget, read_budget

MOST = 10**15  # counting ends here
OPERATOR_BYTES = 7_500  # what one operator takes while a model is read and judged, as measured


def inline_functions(model: Any, budget: Budget | None = None) -> Any:
    """Return the model with the bodies of its functions in place of the calls.

    Raises:
        LimitReached: the operators would take more memory than the budget has.
        ModelUnreadable: functions that call each other in a circle, or that onnx cannot inline.
    """
    check_operators(model, budget or read_budget())
    if not model.functions:
        return model
    import onnx.inliner

    try:
        return onnx.inliner.inline_local_functions(model)
    except Exception as error:  # onnx's own classes
        raise ModelUnreadable("the model's functions cannot be inlined", str(error)[:300]) from None


def check_operators(model: Any, budget: Budget) -> None:
    """Raise LimitReached where there are more operators than the budget has memory for."""
    count = count_operators(model)
    written_out = " (its functions written out)" if model.functions else ""
    budget.check_bytes(count * OPERATOR_BYTES, f"a graph of {count} operators{written_out}", "export it in parts")


def count_operators(model: Any) -> int:
    """Count the operators of the main graph and its inner graphs, with those behind each call of a function."""
    bodies = {key_of(one, one.name): one for one in model.functions}
    counts: dict[tuple[str, str, str], int] = {}
    for key in bodies:
        count_calls(key, bodies, counts)
    return sum(counts.get(key_of(node, node.op_type), 1) for node in nodes_of(model.graph))


def count_calls(start: tuple[str, str, str], bodies: dict[Any, Any], counts: dict[Any, int]) -> None:
    """Put what a function stands for into `counts`, and before it the functions that it calls.

    Without recursion: a chain of functions may be as long as the file allows.
    """
    open_calls: list[tuple[str, str, str]] = [start]
    begun: set[tuple[str, str, str]] = set()
    while open_calls:
        key = open_calls[-1]
        if key in counts:
            open_calls.pop()
            continue
        calls = [key_of(node, node.op_type) for node in nodes_of(bodies[key])]
        waiting = [call for call in calls if call in bodies and call not in counts]
        if not waiting:
            counts[key] = min(sum(counts.get(call, 1) for call in calls), MOST)
        elif key in begun:
            raise ModelUnreadable(f"the model's function {key[1][:200]} calls itself", "ONNX has no recursion")
        else:
            begun.add(key)
            open_calls += dict.fromkeys(waiting)


def key_of(one: Any, name: str) -> tuple[str, str, str]:
    """Return the key by which a call finds its function."""
    domain = "" if one.domain == "ai.onnx" else one.domain
    return domain, name, getattr(one, "overload", "")


def nodes_of(graph: Any) -> Iterator[Any]:
    """Find the nodes of a graph or function, and of the graphs within them."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from nodes_of(inner)
