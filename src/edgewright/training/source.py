"""A torch module as training takes it: built by the user's factory, cut, and given its weights; and out again as ONNX.

Only for use in a worker process: a factory is the user's code.
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
    """The module on the CPU, ready to be trained. The factory runs under the seed, so that what it draws can be drawn
    again.

    With `fresh` the weights are those that the factory draws, even where it loads some: see `reinitialize_weights`.

    Raises:
        ModelNotFound: no such file.
        ModelUnreadable: the factory is missing, raises, or gives no module; weights or slices do not fit it.
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
    """The module without weights of its own; torch's generator is left as it was found."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build_module(file, factory, None)


def reinitialize_weights(module: Any, other: Any, seed: int) -> list[str]:
    """Draw what the factory does not draw by itself; `other` is what it builds under another seed.

    A parameter that is the same under both seeds, and more than one number repeated, was loaded by the factory, or
    drawn under a seed of its own: its layer is asked to draw again by its own `reset_parameters`. Running means and
    variances begin anew.

    Returns:
        Names of those whose layer has no such method (a table of sines, for one): they stay.
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
    """Write the module as ONNX of opset 18, in evaluation mode, with inputs named as the parameters of `forward`.

    Its outputs get the names `outputs` where there are as many. Raises InputError for shapes it does not run on,
    ModelNotConvertible for what torch cannot export.
    """
    with evaluation_mode(module):
        loaded = describe_program(module, "module", shapes)
        if len(outputs) == len(loaded.outputs):
            named = [one._replace(name=name) for one, name in zip(loaded.outputs, outputs, strict=True)]
            loaded = loaded._replace(outputs=tuple(named))
        export_onnx(loaded, path)
    remove_file_exporter_metadata(path)
