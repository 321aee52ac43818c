"""Unstructured magnitude pruning during training."""

import re
from typing import Any

from edgewright.errors import UsageError
from edgewright.training.job import SparsitySettings

MASK_UPDATES = 100  # number of mask updates


class SparsityMasks:
    """Masks over the weights of a module's convolutions and matrix products.

    The share of zeros follows Zhu and Gupta (2017): sparsity × (1 − (1 − t)³). A masked weight remains masked because
    it is 0 and therefore among the smallest.

    Raises UsageError for a share that is not between 0 and 1, an unknown pattern, or no weights to prune.
    """

    def __init__(self, module: Any, thinning: SparsitySettings, planned: int) -> None:
        self.notes: tuple[str, ...] = ()
        self._thinning = thinning
        self._pattern = _read_pattern(thinning)
        self._until = max(1, round(thinning.until * planned))
        self._every = max(1, self._until // MASK_UPDATES)
        self._weights = find_prunable_weights(module)
        if self._pattern is not None:
            fitting = {name: one for name, one in self._weights.items() if one[0].shape[one[1]] % self._pattern[1] == 0}
            if left := [name for name in self._weights if name not in fitting]:
                self.notes = (
                    f"{thinning.pattern} does not divide the input channels of {', '.join(left)}: they are not pruned",
                )
            self._weights = fitting
        if not self._weights:
            raise UsageError(
                "there is nothing to prune", "no convolution or linear layer has prunable weights", "omit the sparsity"
            )
        self._zeros: dict[str, Any] = {}
        self._share = 0.0

    def apply(self, step: int) -> None:
        """Set masked weights to zero after `step` steps."""
        import torch

        with torch.no_grad():
            if step == self._until or (step < self._until and step % self._every == 0):
                self._choose(1 - (1 - step / self._until) ** 3)
            for name, zeros in self._zeros.items():
                self._weights[name][0].masked_fill_(zeros, 0.0)

    def sparsity(self) -> float:
        """Return the share of masked weights."""
        return self._share

    def is_final(self, step: int) -> bool:
        return step >= self._until

    def state(self) -> dict[str, Any]:
        return {"zeros": self._zeros, "share": self._share}

    def restore(self, state: dict[str, Any]) -> None:
        self._zeros = {name: zeros.to(self._weights[name][0].device) for name, zeros in state["zeros"].items()}
        self._share = state["share"]

    def _choose(self, progress: float) -> None:
        import torch

        if self._pattern is not None:
            most, group = self._pattern[1] - self._pattern[0], self._pattern[1]
            count = int(most * progress + 1e-9)
            self._zeros = {name: _mask_smallest(one, axis, count, group) for name, (one, axis) in self._weights.items()}
        else:
            sizes = {name: one.abs() for name, (one, _) in self._weights.items()}
            share = self._thinning.sparsity * progress
            if self._thinning.scope == "global":
                edge = _find_threshold(torch.cat([one.flatten() for one in sizes.values()]), share)
                self._zeros = {name: one <= edge for name, one in sizes.items()}
            else:
                self._zeros = {name: one <= _find_threshold(one.flatten(), share) for name, one in sizes.items()}
        every = sum(one.numel() for one in self._zeros.values())
        self._share = sum(int(one.sum()) for one in self._zeros.values()) / every


def _find_threshold(sizes: Any, share: float) -> Any:
    """Return the largest of the smallest `share` of these values, or a value below all if the share is empty."""
    count = round(share * sizes.numel())
    return sizes.kthvalue(count).values if count else sizes.new_tensor(-1.0)


def _mask_smallest(weights: Any, axis: int, count: int, group: int) -> Any:
    """Return the mask of the `count` smallest of each `group` neighbors along the axis."""
    import torch

    moved = weights.abs().movedim(axis, -1)
    grouped = moved.reshape(*moved.shape[:-1], -1, group)
    zeros = torch.zeros_like(grouped, dtype=torch.bool)
    zeros.scatter_(-1, grouped.topk(count, largest=False).indices, torch.ones_like(zeros))
    return zeros.reshape(moved.shape).movedim(-1, axis)


def find_prunable_weights(module: Any) -> dict[str, tuple[Any, int]]:
    """Return the parameters of convolutions and matrix products by name, with their axis of input channels."""
    from torch import nn

    found: dict[str, tuple[Any, int]] = {}
    for path, layer in module.named_modules():
        for name, weight in layer.named_parameters(recurse=False):
            convolution = isinstance(layer, nn.modules.conv._ConvNd)
            product = isinstance(layer, nn.Linear | nn.Bilinear | nn.MultiheadAttention | nn.RNNBase)
            if weight.ndim >= 2 and (convolution or product) and not any(weight is one for one, _ in found.values()):
                found[f"{path}.{name}".lstrip(".")] = (weight, 0 if getattr(layer, "transposed", False) else 1)
    return found


def _read_pattern(thinning: SparsitySettings) -> tuple[int, int] | None:
    """Return N and M of `N:M`; None without a pattern. Raises UsageError."""
    if not thinning.pattern:
        if not 0 < thinning.sparsity < 1:
            why = "no weight would become zero" if thinning.sparsity <= 0 else "all weights would become zero"
            raise UsageError(
                f"a sparsity of {thinning.sparsity:g} is out of range",
                why,
                "give a share between 0 and 1, for example 0.8",
            )
        return None
    found = re.fullmatch(r"(\d+):(\d+)", thinning.pattern)
    if not found or not 0 < int(found[1]) < int(found[2]):
        raise UsageError(
            f"'{thinning.pattern}' is not a sparsity pattern",
            "N:M keeps N of each M weights, and N is smaller than M",
            "give for example 2:4",
        )
    return int(found[1]), int(found[2])
