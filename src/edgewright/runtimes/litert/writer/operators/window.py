"""Windows of convolution and pooling."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgewright.runtimes.litert.writer.build import Builder
from edgewright.runtimes.litert.writer.graph import Node, OperatorRejected
from edgewright.runtimes.litert.writer.program import Tensor

MOST_SIZE = 2**16


@dataclass(frozen=True)
class Windows:
    """Input size, output size, window, strides, and padding on both sides, per spatial axis."""

    sizes: tuple[int, ...]
    outputs: tuple[int, ...]
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    begin: tuple[int, ...]
    end: tuple[int, ...]

    @property
    def padding(self) -> str | None:
        """SAME or VALID if LiteRT's rule gives this padding, else None."""
        if not any(self.begin) and not any(self.end):
            return "VALID"
        total = [
            max((-(-size // stride) - 1) * stride + (k - 1) * d + 1 - size, 0)
            for size, stride, k, d in zip(self.sizes, self.strides, self.kernel, self.dilations, strict=True)
        ]
        same_count = all(o == -(-s // t) for o, s, t in zip(self.outputs, self.sizes, self.strides, strict=True))
        before = tuple(pad // 2 for pad in total)
        after = tuple(pad - pad // 2 for pad in total)
        return "SAME" if same_count and self.begin == before and self.end == after else None


def read_windows(b: Builder, node: Node, kernel: Sequence[int]) -> Windows:
    """Return the windows of a Conv or a pool, from its attributes and the shapes around it.

    `end` is the padding that the last window needs, which `ceil_mode` increases.
    """
    sizes, outputs = b.shape(node.inputs[0])[2:], b.shape(node.outputs[0])[2:]
    count = len(sizes)
    strides = tuple(node.attributes.get("strides") or [1] * count)
    dilations = tuple(node.attributes.get("dilations") or [1] * count)
    if len(kernel) != count or len(strides) != count or len(dilations) != count:
        raise OperatorRejected("its attributes do not fit its input's axes")
    if min((*kernel, *strides, *dilations), default=1) < 1 or max((*kernel, *strides, *dilations)) > MOST_SIZE:
        raise OperatorRejected("its window has impossible sizes")
    begin, given = _read_pads(node, sizes, kernel, strides, dilations)
    needed = [(o - 1) * s + (k - 1) * d + 1 for o, s, k, d in zip(outputs, strides, kernel, dilations, strict=True)]
    end = tuple(max(n - size - p, 0) for n, size, p in zip(needed, sizes, begin, strict=True))
    for size, low, high, stride, need in zip(sizes, begin, end, strides, needed, strict=True):
        if size + low + high - need >= stride:
            raise OperatorRejected("its last windows are skipped")
    if any((o - 1) * s >= size + low for o, s, size, low in zip(outputs, strides, sizes, begin, strict=True)):
        raise OperatorRejected(
            "its last window begins after the input, which ONNX implementations interpret differently"
        )
    rounds_up = node.op != "Conv" and node.attributes.get("ceil_mode", 0)
    if not rounds_up and any(e > g for e, g in zip(end, given, strict=True)):
        raise OperatorRejected("its padding does not fit its shapes")
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    if any(r > s + low + high for r, s, low, high in zip(reach, sizes, begin, given, strict=True)):
        raise OperatorRejected("its window is larger than its padded input")
    return Windows(sizes, outputs, tuple(kernel), strides, dilations, begin, end)


def _read_pads(
    node: Node, sizes: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    mode = node.attributes.get("auto_pad", "NOTSET") or "NOTSET"
    count = len(sizes)
    if mode == "NOTSET":
        pads = node.attributes.get("pads") or [0] * (2 * count)
        if min(pads) < 0 or len(pads) != 2 * count or max(pads) > MOST_SIZE:
            raise OperatorRejected("its padding is negative or impossible")
        return tuple(pads[:count]), tuple(pads[count:])
    if mode == "VALID":
        return (0,) * count, (0,) * count
    total = [
        max((-(-size // s) - 1) * s + (k - 1) * d + 1 - size, 0)
        for size, s, k, d in zip(sizes, strides, kernel, dilations, strict=True)
    ]
    small, large = tuple(t // 2 for t in total), tuple(t - t // 2 for t in total)
    return (small, large) if mode == "SAME_UPPER" else (large, small)


def pad_windows(b: Builder, x: Tensor, windows: Windows, value: float | None = None) -> Tensor:
    """Pad the spatial axes of a tensor stored with channels last, with zeros by default."""
    pairs = [(0, 0), *zip(windows.begin, windows.end, strict=True), (0, 0)]
    shape = tuple(size + low + high for size, (low, high) in zip(x.shape, pairs, strict=True))
    amounts = b.add_constant(np.asarray(pairs, np.int32))
    if value is None:
        return b.run("PAD", [x, amounts], shape, scales=x.scales)
    filler = b.number(value, x)
    if x.scales is not None:
        filler = b.add_constant(np.asarray(value, x.dtype), share=False)
        filler.scales = x.scales
    return b.run("PADV2", [x, amounts, filler], shape, scales=x.scales)
