"""Samples on their way through a float transformer and, beside it, through what is quantised of it so far."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewright.compress.blocks import choose_blocks, full_blocks, round_blocks, round_nearest
from edgewright.compress.cross_moments import CrossMoments
from edgewright.compress.features import from_matrices, to_matrices
from edgewright.compress.matmul_graphs import Stored, Table, name_bias
from edgewright.compress.network import Network, Site
from edgewright.compress.walk import Walk
from edgewright.errors import InputError

Array = NDArray[Any]

# How far weights may leave their own values to mend earlier errors, as fractions of the mean moment: far … not at all.
RIDGES = (0.03, 0.3, float("inf"))
DOUBT = 0.3  # the share of the off-diagonal moments that is given up with no columns at all
# An input that brings this share of all the noise is rounded more finely; of few inputs one always would.
LARGE_SHARE, FEW_INPUTS = 0.15, 8


class Road:
    """Two walks with the same samples; the quantised one reads what was rounded, as soon as it is rounded.

    Args:
        samples: none leave the road empty: then weights are rounded without knowing what they are multiplied with.
        rounded: tensors that are rounded to 8 bits where sites read them, as DynamicQuantizeLinear does it.
    """

    def __init__(
        self,
        network: Network,
        sites: Sequence[Site],
        tables: Iterable[Table],
        samples: Sequence[Mapping[str, Array]],
        *,
        rounded: Collection[str],
    ) -> None:
        self._network, self._rounded = network, rounded
        self._left = Counter(site.input for site in sites)
        self._halves: dict[str, tuple[CrossMoments, CrossMoments]] = {}
        self._constants = dict(network.constants)
        self._adds = {site.node: find_bias(network, site) for site in sites}
        opset = next(one.version for one in network.model.opset_import if one.domain in ("", "ai.onnx"))
        self._count = len(samples)
        self._exact = self._quant = None
        if samples:
            self._exact = Walk(network.nodes, network.constants, samples, network.types, opset=opset)
            nodes = self._replace(sites, tables)
            self._quant = Walk(nodes, self._constants, samples, network.types, opset=opset)

    def _replace(self, sites: Sequence[Site], tables: Iterable[Table]) -> list[Any]:
        """The nodes as they compute when quantised, with the real values of what is stored as constants."""
        import onnx

        chosen = {site.node: site for site in sites}
        picked = {table.node: table for table in tables}
        biases = {found[0][0]: (site, found[0][1]) for site, found in self._adds.items() if found is not None}
        nodes: list[Any] = []
        done: set[str] = set()
        for node in self._network.nodes:
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            if node.name in biases:
                site, position = biases[node.name]
                copy.input[position] = f"{site}/bias"
            if node.name in picked:
                copy.input[0] = f"{node.name}/real"
                table = picked[node.name]
                self._constants[copy.input[0]] = table.numbers.astype(np.float32) * table.scale
            if node.name in chosen:
                copy.input[1] = f"{node.name}/real"
                copy.input[0] = self._reads(chosen[node.name])
            if node.name in chosen and copy.input[0] != node.input[0] and copy.input[0] not in done:
                done.add(copy.input[0])
                nodes += round_while_running(node.input[0], copy.input[0])
            nodes.append(copy)
        return nodes

    def _reads(self, site: Site) -> str:
        return f"{site.input}/rounded" if site.input in self._rounded else site.input

    def round_site(self, site: Site, bits: int, block: int, *, adaptive: bool) -> Stored:
        """The site's weights as integers; raises InputError where what it reads is not finite."""
        rows = to_matrices(site, self._network.constants[site.weight])[0].astype(np.float64)
        size = block if bits == 4 else rows.shape[1]
        found = self._adds[site.node]
        adds, bias = found if found is not None else (None, None)
        if not adaptive:
            blocks = full_blocks(rows, bits, size)
            return store(site, round_nearest(rows, blocks), blocks.scale, bits, size, bias, adds)
        first, second = self._meet(site)
        whole = first.join(second)
        free = bias is not None  # to take up what the mean moves by
        goal = aim(rows, first, second, free=free)
        square = distrust(whole.moments(centred=free)[0], whole.n)
        numbers, blocks = round_blocks(goal, square, choose_blocks(goal, square, bits, size))
        if bias is not None:
            exact, quant = whole.means
            shift = rows @ exact - blocks.real(numbers) @ quant
            bias = (bias.astype(np.float64) + shift).astype(np.float32)
        return store(site, numbers, blocks.scale, bits, size, bias, adds)

    def take_site(self, site: Site, bits: int, block: int, known: Mapping[str, Array]) -> Stored:
        """A site that an earlier try has rounded, by `matmuls.arrays_of`."""
        self._left[site.input] -= 1
        found, bias = self._adds[site.node], known["bias"] if known["bias"].size else None
        size = block if bits == 4 else known["numbers"].shape[1]
        return Stored(site, known["numbers"], known["scale"], bits, size, bias, found[0] if found is not None else None)

    def _meet(self, site: Site) -> tuple[CrossMoments, CrossMoments]:
        """Of what the site reads, of every other sample and of the rest; shared by all that read the same."""
        self._left[site.input] -= 1
        if site.input not in self._halves and self._exact is not None and self._quant is not None:
            name = self._reads(site)
            self._exact.reach(site.input)
            self._quant.reach(name)
            depth = self._exact.live[0][site.input].shape[-1]
            halves = CrossMoments(depth), CrossMoments(depth)
            for place, (exact, quant) in enumerate(zip(self._exact.live, self._quant.live, strict=True)):
                columns = [to_float64_columns(live) for live in (exact[site.input], quant[name])]
                if not all(np.isfinite(part).all() for part in columns):
                    raise InputError(f"sample {place}: what {site.node} reads is not finite",
                                     f"{site.input} has NaN or infinity, in the float model or once it is quantised",
                                     "check the samples, or keep the nodes before it float")  # fmt: skip
                for half, part in self._split(place, columns, halves):
                    half.add(*part)
            self._halves[site.input] = halves
        halves = self._halves[site.input]
        if not self._left[site.input]:
            del self._halves[site.input]
        return halves

    def _split(
        self, place: int, columns: list[Array], halves: tuple[CrossMoments, CrossMoments]
    ) -> list[tuple[CrossMoments, list[Array]]]:
        """Samples by turns; the columns of a single one by turns."""
        if self._count > 1:
            return [(halves[place % 2], columns)]
        return [(half, [part[:, start::2] for part in columns]) for start, half in enumerate(halves)]

    def pass_on(self, stored: Stored) -> float | None:
        """Give the rounded weights to the quantised walk; the SQNR of the site's output in dB, its bias included."""
        site, shape = stored.site, self._network.constants[stored.site.weight].shape
        self._constants[f"{site.node}/real"] = from_matrices(site, stored.real()[np.newaxis], shape)
        output = site.output
        if stored.adds is not None and stored.bias is not None:
            self._constants[name_bias(stored)] = stored.bias
            output = next(node.output[0] for node in self._network.nodes if node.name == stored.adds[0])
        if self._exact is None or self._quant is None:
            return None
        self._exact.reach(output)
        self._quant.reach(output)
        pairs = zip(self._exact.live, self._quant.live, strict=True)
        return ratio_db([(exact[output], quant[output]) for exact, quant in pairs])


def find_bias(network: Network, site: Site) -> tuple[tuple[str, int], Array] | None:
    """Where the site's bias is read, node and position, and the bias: its own or that of the Add behind it."""
    node, position = network.maker[site.output], 2
    if not site.bias:
        readers = network.readers[site.output]
        if len(readers) != 1 or readers[0].op_type != "Add" or readers[0].domain or site.output in network.outputs:
            return None
        node = readers[0]
        position = 1 - list(node.input).index(site.output)
    bias = network.constants.get(node.input[position])
    count = network.constants[site.weight].shape[site.axis]
    if bias is None or bias.dtype != np.float32 or bias.shape != (count,):
        return None
    return (node.name, position), bias


def find_fine(network: Network, sites: Sequence[Site], samples: Sequence[Mapping[str, Array]]) -> list[str]:
    """The inputs of sites that alone bring a large share of all the noise when activations are rounded to 8 bits."""
    exact = run_all(network, samples, "")
    noise = {}
    for name in dict.fromkeys(site.input for site in sites):
        reads = {site.node for site in sites if site.input == name}
        rough = run_all(network, samples, name, reads)
        noise[name] = sum(
            10 ** (-ratio_db(list(zip(a, b, strict=True))) / 10) for a, b in zip(exact, rough, strict=True)
        )
    large = LARGE_SHARE * sum(noise.values())
    return [name for name, one in noise.items() if one > large and len(noise) >= FEW_INPUTS]


def run_all(
    network: Network, samples: Sequence[Mapping[str, Array]], rounded: str, reads: Collection[str] = ()
) -> list[list[Array]]:
    """By output, what the float network gives for each sample; with `rounded` in 8 bits where `reads` read it."""
    import onnx

    nodes: list[Any] = []
    done = False
    for node in network.nodes:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        if node.name in reads:
            copy.input[0] = f"{rounded}/rounded"
            nodes += round_while_running(rounded, copy.input[0]) if not done else []
            done = True
        nodes.append(copy)
    opset = next(one.version for one in network.model.opset_import if one.domain in ("", "ai.onnx"))
    walk = Walk(nodes, network.constants, samples, network.types, network.outputs, opset=opset)
    walk.reach(*network.outputs)
    return [[live[name] for live in walk.live] for name in network.outputs]


def round_while_running(name: str, to: str) -> list[Any]:
    from onnx import helper

    outputs = [f"{to}/stored", f"{to}/scale", f"{to}/zero"]
    return [
        helper.make_node("DynamicQuantizeLinear", [name], outputs, f"{to}/quantize"),
        helper.make_node("DequantizeLinear", outputs, [to], f"{to}/dequantize"),
    ]


def store(
    site: Site, numbers: Array, scale: Array, bits: int, size: int, bias: Array | None, adds: tuple[str, int] | None
) -> Stored:
    return Stored(site, numbers.astype(np.int8), scale.astype(np.float32), bits, size, bias, adds)


def to_float64_columns(x: Array) -> Array:
    return np.ascontiguousarray(x.reshape(-1, x.shape[-1]).T, np.float64)


def distrust(square: Array, count: int) -> Array:
    """Moments of few columns hang together more than what will come: their off-diagonal part is made smaller."""
    share = DOUBT * len(square) / (len(square) + count)
    shrunk: Array = (1 - share) * square + share * np.diag(np.diag(square))
    return shrunk


def aim(rows: Array, first: CrossMoments, second: CrossMoments, *, free: bool) -> Array:
    """Real weights that come closest to the float output from what arrives in the quantised network.

    They are found by ridge regression towards the weights as they are; how strong the ridge must be is seen on the
    half of the samples that the other half's weights do not know.
    """
    if not first.n or not second.n:
        return rows
    loss = np.zeros(len(RIDGES))
    for known, new in ((first, second), (second, first)):
        square, cross = new.moments(centred=free)
        for place, ridge in enumerate(RIDGES):
            moved = mend(rows, *known.moments(centred=free), ridge)
            loss[place] += ((moved @ square - 2 * rows @ cross) * moved).sum()
    best = RIDGES[int(np.argmin(loss))]
    return mend(rows, *first.join(second).moments(centred=free), best)


def mend(rows: Array, square: Array, cross: Array, ridge: float) -> Array:
    if ridge == float("inf"):
        return rows
    extra = np.eye(len(square)) * (ridge * max(float(np.diag(square).mean()), 1e-12))
    moved: Array = np.linalg.solve(square + extra, (rows @ (cross + extra)).T).T
    return moved


def ratio_db(pairs: Sequence[tuple[Array, Array]]) -> float:
    """Signal to noise in dB; infinity where there is no noise."""
    signal = sum(float((exact.astype(np.float64) ** 2).sum()) for exact, _ in pairs)
    noise = sum(float(((exact.astype(np.float64) - quant) ** 2).sum()) for exact, quant in pairs)
    if noise == 0:
        return float("inf")
    return float(10 * np.log10(max(signal, 1e-300) / noise))
