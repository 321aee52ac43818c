"""Torch modules: evaluation mode, a run on zeros, tensors by name."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from edgewright.formats.torch.program import describe_program

Shapes = Mapping[str, Sequence[int]]


@contextmanager
def evaluation_mode(module: Any) -> Iterator[None]:
    """Set a module to evaluation mode for the block, then restore the mode of each submodule."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


def try_forward(module: Any, shapes: Shapes) -> Any:
    """Run a module on zeros and describe it as a program. Raises InputError with torch's message if it fails."""
    with evaluation_mode(module):
        return describe_program(module, "module", shapes)


def get_named_tensors(module: Any) -> dict[str, Any]:
    """Return parameters and buffers under all their names."""
    return {
        **dict(module.named_parameters(remove_duplicate=False)),
        **dict(module.named_buffers(remove_duplicate=False)),
    }
