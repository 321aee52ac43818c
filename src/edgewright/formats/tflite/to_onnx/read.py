"""Conversion of a TFLite file to ONNX in a process of its own."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from msgspec import Struct

from edgewright.errors import ModelNotConvertible
from edgewright.formats.isolated import ask_isolated
from edgewright.limits import ResourceBudget, read_budget

MODULE = "edgewright.formats.tflite.to_onnx.convert"
WITHOUT_IT = "export the model from its source without it"
FOR_OTHERS = f"compile for litert, or {WITHOUT_IT}"


class ConversionRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The sizes of inputs, and the path of the ONNX file."""

    shapes: dict[str, tuple[int, ...]]
    to: str


class RejectedOperator(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An operator that cannot be written as ONNX; `node` is its name with its position."""

    node: str
    op: str
    reason: str
    remedy: str


class OnnxConversion(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The result.

    Attributes:
        rejected: operators that cannot be written; the ONNX file exists only if there are none.
        sizes: of each tensor of the file, as far as they are known; None for unknown sizes.
    """

    rejected: tuple[RejectedOperator, ...] = ()
    sizes: dict[int, tuple[int | None, ...]] = {}


def convert_tflite(
    path: Path, shapes: Mapping[str, Sequence[int]], to: Path, budget: ResourceBudget | None = None
) -> OnnxConversion:
    """Write a TFLite file as ONNX, with the same inputs and outputs.

    Args:
        path: the TFLite file.
        shapes: sizes of inputs. Other inputs keep those of the file, with free sizes.
        to: the ONNX file.
        budget: the memory and time; by default from the environment, with more time for larger files.

    Raises:
        ModelUnreadable: the file is damaged, or crashes the reader.
        LimitReached: the budget does not suffice.
        OutputError: the disk is full.
    """
    size = path.stat().st_size if path.is_file() else 0
    request = ConversionRequest(shapes={name: tuple(sizes) for name, sizes in shapes.items()}, to=str(to.absolute()))
    return ask_isolated(MODULE, path, request, OnnxConversion, budget or read_budget().for_files(size))


def explain_rejected(name: str, rejected: Sequence[RejectedOperator]) -> ModelNotConvertible:
    """Return the error that lists all operators of a file that cannot be written as ONNX."""
    listed = "; ".join(": ".join(filter(None, (one.node, one.reason))) for one in rejected[:20])
    more = f"; and {len(rejected) - 20} more" if len(rejected) > 20 else ""
    remedies = dict.fromkeys(one.remedy for one in rejected)
    return ModelNotConvertible(f"{name} cannot be converted to ONNX", listed + more, "; ".join(remedies))
