"""Time and quality of `place` on random graphs: 1,000 operators on three units, seeds 0 to 9.

    python -m benchmarks.placement [--seeds 10] [--json]

Prints process CPU seconds (build and search), the gap to the bound, and the times of the greedy rule and of the best
single unit as multiples of the placement's. Run it alone.
"""

import argparse
import statistics
import time
from typing import Any

import msgspec

from edgewright.errors import DataError
from edgewright.placement.problem import make_problem, place_greedily
from edgewright.placement.solve import find_placement
from tests.placement.random_costs import make_costs

CASES = {"1,200 edges": (1200, None), "2,700 edges": (2700, None), "memory": (1200, 0.8)}


def measure(case: str, seed: int, *, prove: bool = False) -> dict[str, Any]:
    """Return the figures of one graph."""
    edges, memory = CASES[case]
    problem = make_problem(make_costs(1000, edges, seed, memory=memory))
    start = time.process_time()
    found = find_placement(problem, prove=prove)
    seconds = time.process_time() - start
    greedy = place_greedily(problem)
    single = [problem.compute_total([unit] * len(problem.nodes)) for unit in range(len(problem.units))]
    return {
        "case": case + (", proven" if prove else ""),
        "seed": seed,
        "cpu_s": seconds,
        "optimal": found.is_optimal,
        "gap": 1 - found.bound_ms / found.total_ms,
        "greedy": problem.compute_total(greedy) / found.total_ms if greedy else None,
        "single": min(single) / found.total_ms,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for case in CASES:
        for prove in (False, True) if case == "memory" else (False,):
            for seed in range(given.seeds):
                try:
                    rows.append(measure(case, seed, prove=prove))
                except DataError as error:
                    rows.append({"case": case, "seed": seed, "error": str(error)})
    if given.json:
        print(msgspec.json.encode({"rows": rows}).decode())
        return
    for case in dict.fromkeys(row["case"] for row in rows):
        own = [row for row in rows if row["case"] == case and "cpu_s" in row]
        times = sorted(row["cpu_s"] for row in own)
        print(
            f"{case}: CPU s median {statistics.median(times):.2f} ({times[0]:.2f}–{times[-1]:.2f}), "
            f"optimal {sum(row['optimal'] for row in own)} of {len(own)}, "
            f"largest gap {max(row['gap'] for row in own):.1e}, "
            f"greedy {statistics.median(row['greedy'] or 0 for row in own):.3f}×, "
            f"best single unit {statistics.median(row['single'] for row in own):.3f}×"
        )


if __name__ == "__main__":
    main()
