"""Torch modules for training: built by the user's factory, sliced and loaded; and their export as ONNX.

Only for worker processes, because a factory is user code.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgewright.formats.onnx.prepare import remove_file_exporter_metadata
from edgewright.formats.torch.program import build_module, describe_program, export_onnx
from edgewright.formats.torch.weights import load_weights
from edgewright.training.job import ModuleSource
from edgewright.training.modules import Shapes, evaluation_mode
from edgewright.training.slices import apply_slices, read_slices, split_factory


def load_module(source: ModuleSource, seed: int) -> Any:
    """Return the module on the CPU. The factory runs with the seed, so that random weights are reproducible.

    With `fresh` the weights are random even if the factory loads some: see `reinitialize_weights`.

    Raises:
        ModelNotFound: no such file.
        ModelUnreadable: the factory is missing, raises, or returns no module; weights or slices do not match.
    """
    file, factory = split_factory(source.factory)
    module = _build_with_seed(file, factory, seed)
    if source.fresh:
        reinitialize_weights(module, _build_with_seed(file, factory, seed + 1), seed)
    if source.weights and source.whole_weights:
        load_weights(module, Path(source.weights))
    if source.slices:
        apply_slices(module, read_slices(Path(source.slices)), rescale=source.fresh)
    if source.weights and not source.whole_weights:
        load_weights(module, Path(source.weights))
    return module.train()


def _build_with_seed(file: Path, factory: str, seed: int) -> Any:
    """Build the module with the seed, and restore torch's generator."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build_module(file, factory, None)


def reinitialize_weights(module: Any, other: Any, seed: int) -> list[str]:
    """Initialize weights that the factory loads; `other` is the module that it builds with another seed.

    A parameter that is equal for both seeds and not constant was loaded or drawn with another seed: its layer's
    `reset_parameters` is called. Running means and variances are reset.

    Returns:
        Names of parameters whose layer has no such method, such as a table of sines; they do not change.
    """
    import torch

    reference = dict(other.named_parameters())
    unchanged = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for path, layer in module.named_modules():
            if hasattr(layer, "reset_running_stats"):
                layer.reset_running_stats()
            own = {f"{path}.{name}".lstrip("."): value for name, value in layer.named_parameters(recurse=False)}
            loaded = [name for name, value in own.items() if _is_loaded(value, reference.get(name))]
            if loaded and callable(getattr(layer, "reset_parameters", None)):
                layer.reset_parameters()
            else:
                unchanged += loaded
    return unchanged


def _is_loaded(value: Any, reference: Any) -> bool:
    if reference is None or value.shape != reference.shape or value.numel() < 2:
        return False
    return bool((value == reference).all()) and bool((value != value.reshape(-1)[0]).any())


def export_module(module: Any, shapes: Shapes, path: Path, outputs: Sequence[str] = ()) -> None:
    """Write the module as ONNX with opset 18, in evaluation mode, with inputs named as the parameters of `forward`.

    Its outputs get the names `outputs` if the number matches. Raises InputError for invalid shapes,
    and ModelNotConvertible for modules that torch cannot export.
    """
    with evaluation_mode(module):
        loaded = describe_program(module, "module", shapes)
        if len(outputs) == len(loaded.outputs):
            named = [one._replace(name=name) for one, name in zip(loaded.outputs, outputs, strict=True)]
            loaded = loaded._replace(outputs=tuple(named))
        export_onnx(loaded, path)
    remove_file_exporter_metadata(path)
