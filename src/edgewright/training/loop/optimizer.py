"""The optimizer and its learning rate at each step."""

from math import cos, pi
from typing import Any

from edgewright.training.job import Settings

RISE = 0.3  # of one-cycle's steps, as in torch's OneCycleLR
START, END = 1 / 25, 1e-4 / 25


def compute_learning_rate(step: int, planned: int, settings: Settings) -> float:
    """Return the learning rate of a step, counted from 0.

    `one-cycle` (Smith and Topin 2019) with torch's shares and constant momentum; `cosine` after Loshchilov and
    Hutter 2017, without restarts.
    """
    if settings.schedule == "one-cycle":
        top = RISE * planned
        if step < top:
            return settings.lr * _interpolate_cosine(START, 1.0, step / top)
        return settings.lr * _interpolate_cosine(1.0, END, (step - top) / max(planned - 1 - top, 1))
    rise = round(settings.warmup * planned)
    if step < rise:
        return settings.lr * (step + 1) / rise
    return settings.lr * (
        _interpolate_cosine(1.0, 0.0, (step - rise) / max(planned - rise, 1)) if settings.schedule == "cosine" else 1.0
    )


def _interpolate_cosine(first: float, last: float, share: float) -> float:
    """Interpolate along half a cosine."""
    return last + (first - last) * (1 + cos(pi * min(share, 1.0))) / 2


def make_optimizer(modules: list[Any], settings: Settings) -> Any:
    """Return the optimizer of all parameters; those with one axis (biases, normalization) have no weight decay."""
    import torch

    every = [one for module in modules for one in module.parameters() if one.requires_grad]
    groups = [
        {"params": [one for one in every if one.ndim >= 2], "weight_decay": settings.weight_decay},
        {"params": [one for one in every if one.ndim < 2], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=settings.lr, foreach=True)
    return torch.optim.SGD(
        groups, lr=settings.lr, momentum=settings.momentum, nesterov=settings.momentum > 0, foreach=True
    )
