"""Values of an ONNX node's attributes, robust against damaged types."""

from typing import Any


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
