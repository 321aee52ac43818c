"""Attributes and subgraphs of ONNX nodes, the opset of a model, and changes of repeated fields."""

from collections.abc import Iterable, Iterator
from typing import Any

OWN_DOMAINS = ("", "ai.onnx")


def read_value(attribute: Any) -> float | int | str | list[float] | list[int] | list[str] | None:
    """Return the number, the text or the list of an attribute; None for any other type.

    Texts that are not UTF-8 are read with replacement characters.
    """
    match attribute.type:  # the numbers of AttributeProto.AttributeType
        case 1:
            return float(attribute.f)
        case 2:
            return int(attribute.i)
        case 3:
            return _read_text(attribute.s)
        case 6:
            return list(attribute.floats)
        case 7:
            return list(attribute.ints)
        case 8:
            return [_read_text(one) for one in attribute.strings]
    return None


def _read_text(value: bytes) -> str:
    return value.decode("utf-8", "replace")


def read_attributes(node: Any) -> dict[str, Any]:
    """Return onnx's values by name: texts are bytes, tensors and subgraphs are messages. Raises ValueError for an
    attribute without a type."""
    from onnx.helper import get_attribute_value

    return {one.name: get_attribute_value(one) for one in node.attribute}


def read_attribute(node: Any, name: str, default: Any = None) -> Any:
    """Return onnx's value of one attribute."""
    from onnx.helper import get_attribute_value

    return next((get_attribute_value(one) for one in node.attribute if one.name == name), default)


def write_attribute(node: Any, name: str, value: Any) -> None:
    """Replace the attribute in its place, or append it."""
    from onnx.helper import make_attribute

    place = next((one for one in node.attribute if one.name == name), None) or node.attribute.add()
    place.CopyFrom(make_attribute(name, value))


def iterate_subgraphs(node: Any) -> Iterator[Any]:
    """Find the graphs in a node's attributes, without those within them."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def read_opset(model: Any, default: int = 0) -> int:
    """Return the version of ONNX's own operators that a model imports."""
    return max((int(entry.version) for entry in model.opset_import if entry.domain in OWN_DOMAINS), default=default)


def find_outer_names(node: Any) -> set[str]:
    """Return the values of the outer graph that a node's subgraphs read."""
    found: set[str] = set()
    for inner in iterate_subgraphs(node):
        own = {value.name for value in inner.input} | {tensor.name for tensor in inner.initializer}
        own |= {name for one in inner.node for name in one.output}
        found |= {name for one in inner.node for name in list_all_inputs(one)} | {value.name for value in inner.output}
        found -= own
    return found


def list_all_inputs(node: Any) -> tuple[str, ...]:
    """Return the values that a node and its subgraphs read."""
    return (*node.input, *find_outer_names(node))


def keep_only(field: Any, wanted: Iterable[Any]) -> None:
    """Replace the elements of a repeated field by others, which may be among its own."""
    kept = list(wanted)
    del field[:]
    field.extend(kept)
