"""Reading of a typed graph from an ONNX file in a separate process.

onnx's shape inference is C++ and may crash, hang or take all memory on a hostile file, so the caller only waits for it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from edgewright.formats.isolated import ask_isolated
from edgewright.formats.typed_graph import TypedGraph
from edgewright.limits import ResourceBudget, read_budget


def read_onnx_graph(
    path: Path, shapes: Mapping[str, Sequence[int]] | None = None, budget: ResourceBudget | None = None
) -> TypedGraph:
    """Return the operators of an ONNX file with the shape and type of every value.

    Args:
        path: the model. Weights of over 4 kB are not read.
        shapes: sizes of inputs. For other inputs, a leading dynamic size is taken as 1, and others stay dynamic.
        budget: the memory and time for reading; by default from the environment, with more time for larger
            files.

    Raises:
        ModelUnreadable: it is damaged, cyclic, or crashes onnx's shape inference.
        ExternalDataMissing: weights are in a file that is absent, or outside of the model's folder.
        InputError: `shapes` has a name that is no input, or does not fit one.
        LimitReached: the budget does not suffice.
    """
    budget = budget or read_budget().for_files(measure_file(path))
    request = {name: list(sizes) for name, sizes in (shapes or {}).items()}
    return ask_isolated("edgewright.formats.onnx.typing_process", path, request, TypedGraph, budget)


def measure_file(path: Path) -> int:
    """Return the bytes of a file; 0 if it cannot be inspected."""
    try:
        return path.stat().st_size
    except OSError:
        return 0
