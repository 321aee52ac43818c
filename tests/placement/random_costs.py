"""Random cost profiles: a graph of operators on three units."""

import itertools

import numpy as np

from edgewright.placement.costs import CostEdge, CostLink, CostNode, CostProfile, CostUnit

UNITS = ("cpu", "gpu", "npu")


def make_costs(nodes: int, edges: int, seed: int, *, memory: float | None = None) -> CostProfile:
    """Return a connected graph; a tenth of the operators lack on gpu or npu.

    Args:
        memory: gpu and npu each have this share of the memory of all operators divided by three; None: no limits.
    """
    random = np.random.default_rng(seed)
    pairs = {
        (int(random.integers(max(0, one - 6), one)) if random.random() < 0.3 else one - 1, one)
        for one in range(1, nodes)
    }
    while len(pairs) < edges:
        target = int(random.integers(1, nodes))
        pairs.add((int(random.integers(max(0, target - 8), target)), target))
    ms = random.uniform(0.05, 2, (nodes, 3))
    lacks = random.random((nodes, 3)) < 0.1
    sizes, bytes_ = random.uniform(0.1, 2, nodes), random.uniform(1e3, 1e6, nodes)
    rows = [
        {unit: None if lacks[one, number] and number else float(ms[one, number]) for number, unit in enumerate(UNITS)}
        for one in range(nodes)
    ]
    limit = None if memory is None else float(sizes.sum()) / 3 * memory
    return CostProfile(
        units=tuple(CostUnit(name=one, memory_bytes=None if one == "cpu" else limit) for one in UNITS),
        nodes=tuple(CostNode(name=f"n{one}", ms=row, memory_bytes=float(sizes[one])) for one, row in enumerate(rows)),
        edges=tuple(
            CostEdge(source=f"n{a}", target=f"n{b}", tensor="t", bytes=float(bytes_[a])) for a, b in sorted(pairs)
        ),
        links=tuple(
            CostLink(source=a, target=b, latency_ms=0.05, bytes_per_ms=2e6) for a, b in itertools.permutations(UNITS, 2)
        ),
    )
