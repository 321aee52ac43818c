"""Torch modules: evaluation mode, a run on zeros, tensors by name."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from edgewright.formats.torch.program import describe_program

Shapes = Mapping[str, Sequence[int]]


@contextmanager
def evaluation_mode(module: Any) -> Iterator[None]:
    """The module in evaluation mode; each part of it in its own mode again behind."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


def try_forward(module: Any, shapes: Shapes) -> Any:
    """The module described as a program, having run on zeros. InputError with torch's words where it does not run."""
    with evaluation_mode(module):
        return describe_program(module, "module", shapes)


def get_named_tensors(module: Any) -> dict[str, Any]:
    """Parameters and buffers under each of their names."""
    return {
        **dict(module.named_parameters(remove_duplicate=False)),
        **dict(module.named_buffers(remove_duplicate=False)),
    }
