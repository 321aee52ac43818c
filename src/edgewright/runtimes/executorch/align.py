"""Mapping of XNNPACK's executed operators to operators of its graph.

XNNPACK reports executed operators by name and in order, but without nodes of its graph: it fuses activations into the
operators before them, and turns a 1x1 convolution into a fully connected layer. So both lists are aligned by the
longest common subsequence of matching kinds (Needleman & Wunsch, 1970), and an operator without a match belongs to the
one before it.
"""

import re
from collections.abc import Callable, Sequence
from functools import cache

from edgewright.runtimes.executorch.description import ExecutorchOperator

NUMBER = re.compile(r" #\d+$")
DETAIL = re.compile(r" \(.*")
# The possible kinds in ExecuTorch's XNNPACK schema by XNNPACK's operator name.
KINDS = {
    "averagepooling": ("avgpooling2d", "globalavgpooling2d"),
    "bankersrounding": ("bankersrounding",),
    "batchmatrixmultiply": ("batchmatrixmultiply",),
    "constantpad": ("staticconstantpad",),
    "convolution": ("conv2d", "depthwiseconv2d"),
    "convert": ("convert",),
    "copy": ("concatenate", "staticreshape", "convert"),
    "deconvolution": ("convtranspose2d",),
    "divide": ("div",),
    "fullyconnected": ("fullyconnected", "conv2d"),
    "globalaveragepooling": ("globalavgpooling2d",),
    "maxpooling": ("maxpooling2d",),
    "mean": ("globalavgpooling2d",),
    "resizebilinear": ("staticresizebilinear2d",),
    "slice": ("staticslice",),
    "square": ("square",),
    "squareroot": ("squareroot",),
    "staticreshape": ("staticreshape",),
    "transpose": ("statictranspose",),
}


def kind_of(name: str) -> str:
    """Return the kind of an operator: `convolution` for `Convolution (NHWC, F32) IGEMM #3`."""
    return re.sub(r"[^a-z0-9]", "", DETAIL.sub("", NUMBER.sub("", name)).lower())


@cache
def agrees(ran: str, made: str) -> bool:
    """Return whether a kind of `kind_of` matches one of the schema."""
    kind, wanted = ran, made.lower()
    known = KINDS.get(kind)
    if known:
        return any(wanted.startswith(one) for one in known)
    return wanted.rstrip("0123456789") == kind or kind in wanted


def align_operators(ran: Sequence[str], made: Sequence[ExecutorchOperator]) -> list[tuple[str, ...]]:
    """Return the source nodes of each executed operator."""
    pairs = find_common_pairs([kind_of(name) for name in ran], [one.kind for one in made], agrees)
    found: list[dict[str, None]] = [{} for _ in ran]
    last = pairs[0][0] if pairs else 0
    partner = {j: i for i, j in pairs}
    for j, one in enumerate(made):
        last = partner.get(j, last)
        if found:
            found[last].update(dict.fromkeys(one.sources))
    return [tuple(names) for names in found]


def find_common_pairs(
    ran: Sequence[str], made: Sequence[str], same: Callable[[str, str], bool]
) -> list[tuple[int, int]]:
    """Return the pairs of positions of the longest common subsequence, in order."""
    table = [[0] * (len(made) + 1) for _ in range(len(ran) + 1)]
    for i in range(len(ran) - 1, -1, -1):
        for j in range(len(made) - 1, -1, -1):
            both = table[i + 1][j + 1] + 1 if same(ran[i], made[j]) else 0
            table[i][j] = max(both, table[i + 1][j], table[i][j + 1])
    pairs, i, j = [], 0, 0
    while i < len(ran) and j < len(made):
        if same(ran[i], made[j]) and table[i][j] == table[i + 1][j + 1] + 1:
            pairs.append((i, j))
            i, j = i + 1, j + 1
        elif table[i + 1][j] >= table[i][j + 1]:
            i += 1
        else:
            j += 1
    return pairs
