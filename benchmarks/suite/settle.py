"""Seeded weights under which every layer's numbers stay near one and the outputs depend on the inputs.

Weights without training shrink or blow up layer by layer, and then no comparison of two runtimes means anything. One
seeded pass in train mode takes the statistics of the batch normalisations, and gives every other convolution and linear
layer outputs of mean 0 and deviation 1 (Krähenbühl et al. 2016, arXiv:1511.06856; Mishkin & Matas 2016,
arXiv:1511.06422).
"""

from collections.abc import Callable
from importlib import import_module
from zlib import crc32

import torch
from torch import Tensor, nn

from benchmarks.suite.table import Entry, Port

BATCH = 16
WEIGHTED = (nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


def build_model(entry: Entry) -> nn.Module:
    """The entry's model in eval mode; the same weights at every call on the same machine."""
    torch.set_num_threads(1)
    torch.manual_seed(crc32(entry.name.encode()))
    factory: Callable[[], nn.Module] = getattr(import_module(f"benchmarks.suite.{entry.family}"), entry.name)
    model = factory()
    settle(model, make_inputs(entry, BATCH, seed=1))
    return model.eval()


def make_inputs(entry: Entry, batch: int, seed: int) -> tuple[Tensor, ...]:
    """Seeded inputs in the order of the entry's ports, each with `batch` in place of the leading 1."""
    generator = torch.Generator().manual_seed(crc32(entry.name.encode()) ^ seed)
    return tuple(fill(port, batch, generator) for port in entry.inputs)


def fill(port: Port, batch: int, generator: torch.Generator) -> Tensor:
    shape = (batch, *port.shape[1:])
    if port.kind == "tokens":
        return torch.randint(0, port.bound, shape, generator=generator)
    if port.kind == "mask":
        lengths = torch.randint(shape[1] // 2, shape[1] + 1, (batch, 1), generator=generator)
        return (torch.arange(shape[1])[None] < lengths).to(torch.int64)
    noise = torch.randn(shape, generator=generator)
    return noise + smooth(shape, generator) if port.kind == "image" else noise


def smooth(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Coarse patches: what makes one picture differ from another after an average over all pixels."""
    parts = torch.zeros(shape)
    for cells in (2, 8):
        coarse = torch.randn((*shape[:2], cells, cells), generator=generator)
        parts += nn.functional.interpolate(coarse, size=shape[2:], mode="bilinear", align_corners=False)
    return parts


def settle(model: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    handles = [module.register_forward_hook(normalize) for module in model.modules() if isinstance(module, WEIGHTED)]
    for module in model.modules():
        if isinstance(module, NORMS):
            module.momentum = 1.0
        if isinstance(module, nn.Dropout):
            module.eval()
    spread_affine(model)
    with torch.no_grad():
        model.train()(*inputs)
    for handle in handles:
        handle.remove()


def spread_affine(model: nn.Module) -> None:
    """Scales and shifts away from 1 and 0: a converter that drops or swaps them must be seen.

    The shifts before a rectifier are positive: about 0 a deep random network with batch normalization is chaotic (Yang
    et al. 2019, arXiv:1902.08129): weights rounded to fp16 left MobileNets 26 dB, and with these shifts 40 dB.
    """
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, (*NORMS, nn.LayerNorm)):
                module.weight.uniform_(0.7, 1.3)
                module.bias.uniform_(*((0.4, 1.2) if isinstance(module, NORMS) else (-0.3, 0.3)))
            if isinstance(module, nn.PReLU):
                module.weight.uniform_(0.1, 0.4)


def normalize(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    """Deviation 1 over all of the output; with a bias also a mean near 0 in each channel."""
    del inputs
    axis = output.dim() - 1 if isinstance(module, nn.Linear) else 1
    others = [place for place in range(output.dim()) if place != axis]
    shape = [-1 if place == axis else 1 for place in range(output.dim())]
    mean = output.mean(dim=others) if module.bias is not None else torch.zeros(output.shape[axis])
    centred = output - mean.reshape(shape)
    deviation = centred.std().clamp_min(1e-6)
    module.weight /= deviation
    if module.bias is None:
        return centred / deviation
    shift = torch.randn(mean.shape) * 0.1
    module.bias.copy_((module.bias - mean) / deviation + shift)
    return centred / deviation + shift.reshape(shape)
