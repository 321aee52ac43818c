"""Which parameters of a module an adaptation trains: low-rank updates, the last layer, biases, or all."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from edgewright.errors import UsageError
from edgewright.schema.vocabulary import AdapterMethod

LOW_RANK = "weight_update"  # part of the names in adapters


def insert_adapter(module: Any, method: AdapterMethod, rank: int, inputs: Mapping[str, Any]) -> None:
    """Freeze the module except for what `method` trains. Its outputs do not change.

    `lora` adds a product of two matrices of `rank` to the weight of each convolution and linear layer (Hu et al. 2021)
    and trains the last layer as a whole; `head` trains the last layer; `bias` the biases and the scales of
    normalizations (Zaken et al. 2021); `full` all parameters. Normalizations keep their running statistics.

    Args:
        inputs: one batch, to find the last layer with.

    Raises UsageError if the module has nothing that `method` trains.
    """
    layers = _list_called_layers(module, inputs)
    for one in module.parameters():
        one.requires_grad_(method == "full")
    if method in ("lora", "head"):
        if not layers:
            raise UsageError(
                f"--method {method} cannot be used for this module",
                "it calls no convolution and no linear layer",
                "use --method full",
            )
        _release(layers[-1])
    if method == "lora":
        for layer in layers[:-1]:
            _add_low_rank(layer, rank)
    if method == "bias":
        _release_biases(module)
    for part in module.modules():
        if _is_normalization(part) and hasattr(part, "running_mean"):
            part.eval()
            part.train = partial(_stay_in_evaluation, part)
    if not any(one.requires_grad for one in module.parameters()):
        raise UsageError(f"--method {method} trains nothing", "the module has no such parameters", "use --method full")


def _list_called_layers(module: Any, inputs: Mapping[str, Any]) -> list[Any]:
    """Return the convolutions and linear layers in the order of their last call."""
    import torch

    kinds = (torch.nn.Linear, torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d)
    called: dict[int, Any] = {}

    def note(layer: Any, given: Any, made: Any) -> None:
        called.pop(id(layer), None)
        called[id(layer)] = layer

    hooks = [part.register_forward_hook(note) for part in module.modules() if isinstance(part, kinds)]
    training = module.training
    with torch.no_grad():
        module.eval()(**inputs)
    module.train(training)
    for hook in hooks:
        hook.remove()
    return list(called.values())


def _release(layer: Any) -> None:
    for one in layer.parameters():
        one.requires_grad_(True)


def _release_biases(module: Any) -> None:
    for part in module.modules():
        for name, one in part.named_parameters(recurse=False):
            if name == "bias" or _is_normalization(part):
                one.requires_grad_(True)


def _is_normalization(part: Any) -> bool:
    return "Norm" in type(part).__name__


def _stay_in_evaluation(part: Any, mode: bool = True) -> Any:
    part.training = False
    return part


def _add_low_rank(layer: Any, rank: int) -> None:
    import torch
    from torch.nn.utils.parametrize import register_parametrization

    class LowRankUpdate(torch.nn.Module):  # type: ignore[misc] # torch is not typed
        """Adds up @ down to a weight of [out, …]; `up` starts as zeros, so that nothing changes at first."""

        def __init__(self, weight: Any) -> None:
            super().__init__()
            size = min(rank, *weight.flatten(1).shape)
            self.down = torch.nn.Parameter(torch.empty(size, weight[0].numel()))
            self.up = torch.nn.Parameter(torch.zeros(len(weight), size))
            torch.nn.init.kaiming_uniform_(self.down, a=5**0.5)

        def forward(self, weight: Any) -> Any:
            return weight + (self.up @ self.down).view(weight.shape)

    register_parametrization(layer, "weight", LowRankUpdate(layer.weight))


def list_adapted(module: Any) -> dict[str, Any]:
    """Return the trained parameters by name; those of low-rank updates as `LAYER.weight_update.up` and `.down`."""
    names = {name: one for name, one in module.named_parameters() if one.requires_grad}
    return {_rename(name): one for name, one in names.items()}


def _rename(name: str) -> str:
    return name.replace("parametrizations.weight.0", LOW_RANK)


def merge_adapter(module: Any) -> None:
    """Replace weights and low-rank updates by their sums: the module has its own names and sizes again."""
    from torch.nn.utils.parametrize import is_parametrized, remove_parametrizations

    for part in list(module.modules()):
        if is_parametrized(part, "weight"):
            remove_parametrizations(part, "weight", leave_parametrized=True)
    for one in module.parameters():
        one.requires_grad_(True)


def merge_tensors(module: Any, tensors: Mapping[str, Any]) -> None:
    """Change a module without an inserted adapter as the tensors of one say."""
    import torch

    own = dict(module.named_parameters())
    ends = tuple(f"{LOW_RANK}.{part}" for part in ("up", "down"))
    with torch.no_grad():
        for name, tensor in tensors.items():
            if not name.endswith(ends):
                own[name].copy_(tensor)
            elif name.endswith(ends[0]):
                layer = name.removesuffix(f".{ends[0]}")
                weight = own[f"{layer}.weight"]
                weight += (tensor @ tensors[f"{layer}.{ends[1]}"]).view(weight.shape)
