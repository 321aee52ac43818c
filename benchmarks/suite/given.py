"""The suite's MobileNetV2 with the weights of an ONNX file, for converters that want torch code of a real model."""

from pathlib import Path

import numpy as np
import torch
from torch import nn

from benchmarks.suite.mobilenet import mobilenet_v2

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


def save_weights(source: Path, path: Path) -> None:
    """Weight, bias and pads of every convolution and linear layer of an ONNX file, in the order of its nodes."""
    import onnx

    graph = onnx.load(source).graph
    arrays = {array.name: onnx.numpy_helper.to_array(array) for array in graph.initializer}
    layers = [node for node in graph.node if node.op_type in ("Conv", "Gemm")]
    kept: list[np.ndarray] = []
    for node in layers:
        pads = next((list(one.ints) for one in node.attribute if one.name == "pads"), [0, 0, 0, 0])
        kept += [*(arrays[name] for name in node.input[1:3]), np.array(pads)]
    np.savez(path, *kept)


def load_mobilenet(path: Path) -> nn.Module:
    """The model in eval mode; its normalisations are part of the weights. Raises ValueError where the shapes differ."""
    kept = list(np.load(path).values())
    model = mobilenet_v2(classes=len(kept[-2]))
    for (holder, name), (weight, bias, pads) in zip(
        find_layers(model), zip(*[iter(kept)] * 3, strict=True), strict=True
    ):
        setattr(holder, name, fill_layer(getattr(holder, name), weight, bias, pads.tolist()))
    for holder in list(model.modules()):
        for name, child in list(holder.named_children()):
            if isinstance(child, NORMS):
                setattr(holder, name, nn.Identity())
    return model.eval()


def find_layers(model: nn.Module) -> list[tuple[nn.Module, str]]:
    """Who holds a convolution or linear layer, and under which name, in the order in which they run."""
    children = ((holder, *named) for holder in model.modules() for named in holder.named_children())
    return [(holder, name) for holder, name, child in children if isinstance(child, nn.Conv2d | nn.Linear)]


def fill_layer(layer: nn.Module, weight: np.ndarray, bias: np.ndarray, pads: list[int]) -> nn.Module:
    """The layer with these numbers, and with a padding of its own where the sides are not alike."""
    layer.weight = nn.Parameter(torch.tensor(weight).reshape(layer.weight.shape))
    layer.bias = nn.Parameter(torch.tensor(bias))
    if isinstance(layer, nn.Linear) or pads == [layer.padding[0], layer.padding[1]] * 2:
        return layer
    top, left, bottom, right = pads
    layer.padding = (0, 0)
    return nn.Sequential(nn.ZeroPad2d((left, right, top, bottom)), layer)
