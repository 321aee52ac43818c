"""Where to cut a network into a part for a device and a part for a server.

The times of each node on both sides and the link give a placement on two units with one direction: what the server
has begun never returns to the device. Its optimum is found by the solver of `place`. Inputs are on the device, and
outputs are needed there. Times are in milliseconds.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from edgewright.errors import UsageError
from edgewright.placement.costs import CostEdge, CostLink, CostNode, CostProfile, CostUnit
from edgewright.placement.problem import make_problem
from edgewright.placement.solve import find_placement

INPUT = "\0input"  # the node that makes the inputs; no ONNX name has this character
DEVICE, SERVER = "device", "server"
MOST_ENDS = 6  # pairs of first and last nodes that are tried to find a cut with a node on each side
_RATES = {"bit": 1.0, "kbit": 1e3, "mbit": 1e6, "gbit": 1e9}
_HINT = "write it like 20Mbit,15ms"


class NetworkLink(NamedTuple):
    """A network between the sides: the same speed both ways, and the delay of each way."""

    bits_per_s: float
    delay_ms: float

    def price(self, size: float) -> float:
        """Return the milliseconds that this many bytes take, without the delay."""
        return size * 8e3 / self.bits_per_s


def parse_link(text: str) -> NetworkLink:
    """Return the link of a text like `20Mbit,15ms`; the delay is optional. Raises UsageError."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kMG]?bit)(?:/s)?\s*(?:,\s*(\d+(?:\.\d+)?)\s*(ms|us|s)?\s*)?", text)
    if match is None:
        raise UsageError(f"--link {text} is not understood", "it has a bandwidth, and the delay of one way", _HINT)
    delay = float(match[3] or 0) * {"ms": 1.0, "us": 1e-3, "s": 1e3}[match[4] or "ms"]
    rate = float(match[1]) * _RATES[match[2].lower()]
    if rate <= 0:
        raise UsageError(f"--link {text} is not possible", "nothing goes over a link of 0 bit/s", _HINT)
    return NetworkLink(rate, delay)


class SplitTensor(NamedTuple):
    """A tensor that could be sent: the node that makes it, INPUT for an input of the network, and its readers."""

    name: str
    source: str
    targets: tuple[str, ...]
    bytes: float


@dataclass(frozen=True)
class SplitProblem:
    """What is to be cut.

    Attributes:
        nodes: names in execution order.
        device_ms, server_ms: their times.
        output_bytes: bytes of the network's outputs that a node makes; the server sends them back.
    """

    nodes: tuple[str, ...]
    device_ms: dict[str, float]
    server_ms: dict[str, float]
    tensors: tuple[SplitTensor, ...]
    output_bytes: dict[str, float]
    link: NetworkLink

    def list_crossing(self, on_device: frozenset[str]) -> tuple[SplitTensor, ...]:
        """Return the tensors that a device with these nodes sends to the server."""
        held = on_device | {INPUT}
        return tuple(one for one in self.tensors if one.source in held and not held.issuperset(one.targets))

    def price(self, on_device: frozenset[str]) -> float:
        """Return the milliseconds of one inference; the delay is paid both ways if the server has any node."""
        total = sum(self.device_ms[one] if one in on_device else self._price_server(one) for one in self.nodes)
        if len(on_device) == len(self.nodes):
            return total
        sent = sum(self.link.price(one.bytes) for one in self.list_crossing(on_device))
        return total + sent + 2 * self.link.delay_ms

    def _price_server(self, node: str) -> float:
        return self.server_ms[node] + self.link.price(self.output_bytes.get(node, 0.0))

    def name_side(self, on_device: frozenset[str]) -> str:
        """Return device or server if all nodes are there, else split."""
        return DEVICE if len(on_device) == len(self.nodes) else "split" if on_device else SERVER


def list_prefixes(problem: SplitProblem) -> Iterable[frozenset[str]]:
    """Yield the first nodes in execution order, as sets: one node, two nodes, … all but the last."""
    for count in range(1, len(problem.nodes)):
        yield frozenset(problem.nodes[:count])


def find_split(problem: SplitProblem) -> frozenset[str]:
    """Return the nodes of the device in the best split that has at least one node on each side.

    Raises UsageError for a network of fewer than two nodes, RuntimeMissing without HiGHS.
    """
    if len(problem.nodes) < 2:
        raise UsageError("this network cannot be split", "it has one operator", "run it as a whole on one side")
    best = _solve(problem)
    if 0 < len(best) < len(problem.nodes):
        return best
    first, last = _find_ends(problem)
    found = [_solve(problem, a, b) for a in first for b in last if a != b]
    return min(found, key=problem.price)


def find_switches(problem: SplitProblem, bits_per_s: Sequence[float]) -> list[tuple[float, str, float]]:
    """Return for each speed of the link what is fastest (device, server or split) and its milliseconds."""
    found = []
    for rate in bits_per_s:
        one = replace(problem, link=problem.link._replace(bits_per_s=rate))
        sides = (frozenset(one.nodes), frozenset[str](), _solve(one))
        best = min(sides, key=one.price)
        found.append((rate, one.name_side(best), one.price(best)))
    return found


def _find_ends(problem: SplitProblem) -> tuple[list[str], list[str]]:
    """Return nodes that read only inputs, and nodes that no other reads: a split has one of each on its sides."""
    made = {target for one in problem.tensors if one.source != INPUT for target in one.targets}
    read = {one.source for one in problem.tensors if one.targets}
    first = [one for one in problem.nodes if one not in made][:MOST_ENDS]
    last = [one for one in problem.nodes if one not in read][-MOST_ENDS:]
    return first, last


def _solve(problem: SplitProblem, first: str = "", last: str = "") -> frozenset[str]:
    """Return the nodes of the device in the best placement without the delay, which only the whole device does without.

    `first` is to be on the device, and `last` on the server.
    """
    rows = [CostNode(name=INPUT, ms={DEVICE: 0.0, SERVER: None})]
    for name in problem.nodes:
        on_device = None if name == last else problem.device_ms[name]
        on_server = None if name == first else problem._price_server(name)
        rows.append(CostNode(name=name, ms={DEVICE: on_device, SERVER: on_server}))
    edges = [
        CostEdge(source=one.source, target=target, tensor=one.name, bytes=one.bytes)
        for one in problem.tensors
        for target in one.targets
    ]
    profile = CostProfile(
        units=(CostUnit(name=DEVICE), CostUnit(name=SERVER)),
        nodes=tuple(rows),
        edges=tuple(edges),
        links=(CostLink(source=DEVICE, target=SERVER, bytes_per_ms=problem.link.bits_per_s / 8e3),),
    )
    placed = find_placement(make_problem(profile)).placed
    names = [one.name for one in rows]
    return frozenset(name for name, unit in zip(names, placed, strict=True) if unit == 0 and name != INPUT)
