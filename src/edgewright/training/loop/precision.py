"""Choice of float32 or bfloat16 for a training."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any, Literal

LOSS_TOLERANCE = 0.03  # of the loss


def choose_precision(
    wanted: Literal["auto", "fp32", "bf16"], module: Any, loss: Callable[[Any], Any]
) -> tuple[Literal["fp32", "bf16"], str]:
    """Return the compute precision, and the reason if `auto` cannot use bf16.

    Args:
        loss: returns the loss of the first batch for a module on the processor or GPU.
    """
    import torch

    if wanted != "auto":
        return wanted, ""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if torch.backends.mps.is_available() or not supports_bf16(device):
        return "fp32", "this machine has no native bf16"
    losses = []
    for half in (False, True):
        probe = deepcopy(module).to(device).train()  # normalization updates its statistics
        with torch.no_grad(), torch.random.fork_rng(), torch.autocast(device, torch.bfloat16, enabled=half):
            losses.append(float(loss(probe)))
    if abs(losses[1] - losses[0]) <= LOSS_TOLERANCE * abs(losses[0]) + 1e-3:
        return "bf16", ""
    return "fp32", f"the first loss is {losses[1]:.4g} in bf16, {losses[0]:.4g} in fp32"


def supports_bf16(device: str) -> bool:
    import torch

    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    can = torch.cpu.get_capabilities()
    return any(can.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
