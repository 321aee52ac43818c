"""The best placement is the best of all, its time is that of its parts, and profiles that mean nothing are rejected."""

import itertools
from math import inf, isfinite

import msgspec
import numpy as np
import pytest

from edgewright.errors import DataError
from edgewright.placement.costs import CostProfile, read_costs
from edgewright.placement.problem import Problem, make_problem, place_greedily
from tests.placement.random_costs import make_costs

pytest.importorskip("highspy", reason="HiGHS solves the placement")
from edgewright.placement.solve import find_placement

UNITS = ("cpu", "gpu", "npu")


def chain(last_on_npu: float | None, **changes: object) -> bytes:
    """Three operators: 12.4/8.1/3.2, 5.6/4.3/2.1, 7.8/6.9/- ms, and 1 ms for every move."""
    rows = {"conv": (12.4, 8.1, 3.2), "depthwise": (5.6, 4.3, 2.1), "dense": (7.8, 6.9, last_on_npu)}
    plain: dict[str, object] = {
        "units": [{"name": one} for one in UNITS],
        "nodes": [{"name": name, "ms": dict(zip(UNITS, ms, strict=True))} for name, ms in rows.items()],
        "edges": [{"from": "conv", "to": "depthwise"}, {"from": "depthwise", "to": "dense"}],
        "links": [{"from": a, "to": b, "latency_ms": 1} for a, b in itertools.permutations(UNITS, 2)],
    }
    return msgspec.json.encode(plain | changes)


def try_all(problem: Problem) -> float:
    return min(
        problem.compute_total(one) for one in itertools.product(range(len(problem.units)), repeat=len(problem.nodes))
    )


@pytest.mark.parametrize(("last", "total", "units"), [(None, 13.2, "npu npu gpu"), (5.4, 10.7, "npu npu npu")])
def test_a_chain(last: float | None, total: float, units: str) -> None:
    problem = make_problem(read_costs(chain(last), "c.json"))
    found = find_placement(problem)
    assert found.total_ms == pytest.approx(total)
    assert [UNITS[one] for one in found.placed] == units.split()
    assert found.is_optimal


@pytest.mark.parametrize("memory", [None, 0.8])
@pytest.mark.parametrize("seed", range(6))
def test_no_assignment_is_better(seed: int, memory: float | None) -> None:
    problem = make_problem(make_costs(8, 12, seed, memory=memory))
    best = try_all(problem)
    if not isfinite(best):
        with pytest.raises(DataError, match="no assignment"):
            find_placement(problem, prove=True)
        return
    proven, quick = find_placement(problem, prove=True), find_placement(problem)
    assert proven.total_ms == pytest.approx(best, abs=1e-5)
    assert proven.is_optimal
    assert quick.bound_ms <= best + 1e-5 <= quick.total_ms + 2e-5
    greedy = place_greedily(problem)
    assert greedy is None or problem.compute_total(greedy) >= best - 1e-9


def test_readers_of_a_tensor_on_one_unit_pay_once() -> None:
    plain = {
        "units": [{"name": "cpu"}, {"name": "npu"}],
        "nodes": [
            {"name": "a", "ms": {"cpu": 1}},
            *({"name": one, "ms": {"cpu": 5, "npu": 1}} for one in "bcd"),
        ],
        "edges": [{"from": "a", "to": one, "tensor": "t", "bytes": 100} for one in "bcd"],
        "links": [{"from": "cpu", "to": "npu", "latency_ms": 1, "bytes_per_ms": 50}],
    }
    profile = read_costs(msgspec.json.encode(plain), "c.json")
    problem = make_problem(profile)
    found = find_placement(problem)
    assert found.placed == (0, 1, 1, 1)
    assert found.total_ms == pytest.approx(1 + 3 * 1 + 1 + 100 / 50)
    assert len(problem.list_crossings(found.placed)) == 1


def test_a_missing_link_is_forbidden() -> None:
    profile = read_costs(chain(None, links=[]), "c.json")
    problem = make_problem(profile)
    assert find_placement(problem).total_ms == pytest.approx(19.3)
    assert place_greedily(problem) is None
    with pytest.raises(DataError, match="no unit supports dense"):
        find_placement(make_problem(profile, ["npu"]))


def test_memory_that_is_too_small() -> None:
    nodes = [{"name": one, "ms": {"npu": 1}, "memory_bytes": 6} for one in "ab"]
    content = chain(None, units=[{"name": "npu", "memory_bytes": 10}], nodes=nodes, edges=[], links=[])
    problem = make_problem(read_costs(content, "c.json"))
    with pytest.raises(DataError, match="no assignment"):
        find_placement(problem)
    assert problem.compute_total([0, 0]) == inf


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"edges": [{"from": "conv", "to": "dense"}, {"from": "dense", "to": "conv"}]}, "conv → dense → conv"),
        ({"edges": [{"from": "conv", "to": "conv"}]}, "conv → conv"),
        ({"nodes": [{"name": "a", "ms": {"cpu": -1}}], "edges": []}, "-1"),
        ({"nodes": [{"name": "a", "ms": {"tpu": 1}}], "edges": []}, "tpu"),
        ({"nodes": [{"name": "a", "ms": {"cpu": 1}}] * 2, "edges": []}, "twice"),
        ({"edges": [{"from": "conv", "to": "relu"}]}, "relu"),
        ({"links": [{"from": "cpu", "to": "npu", "bytes_per_ms": 0}]}, "speed 0"),
        ({"links": [{"from": "cpu", "to": "tpu"}]}, "tpu"),
        ({"links": [{"from": "cpu", "to": "npu", "latency_ms": -0.5}]}, "-0.5"),
        ({"nodes": [], "edges": []}, "no nodes"),
        ({"units": []}, "no units"),
        ({"schema": "edgewright.costs/9"}, "edgewright.costs/9"),
        (
            {"edges": [{"from": "conv", "to": "dense", "bytes": 1}, {"from": "conv", "to": "depthwise", "bytes": 2}]},
            "two",
        ),
    ],
)
def test_profiles_that_mean_nothing(changes: dict[str, object], why: str) -> None:
    with pytest.raises(DataError) as caught:
        read_costs(chain(None, **changes), "c.json")
    assert why in f"{caught.value.why}"


def test_a_unit_that_the_profile_does_not_have() -> None:
    with pytest.raises(DataError, match="no unit dsp"):
        make_problem(read_costs(chain(None), "c.json"), ["cpu", "dsp"])


def test_the_answer_stands_alone_on_stdout(capfd: pytest.CaptureFixture[str]) -> None:
    find_placement(make_problem(read_costs(chain(None), "c.json")))
    assert capfd.readouterr().out == ""


def test_a_profile_is_sorted() -> None:
    nodes = [{"name": one, "ms": {"cpu": 1}} for one in ("c", "b", "a")]
    edges = [{"from": "a", "to": "b"}, {"from": "b", "to": "c"}]
    profile: CostProfile = read_costs(chain(None, nodes=nodes, edges=edges), "c.json")
    assert [one.name for one in profile.nodes] == ["a", "b", "c"]
    assert np.isinf(make_problem(profile).ms[:, 1:]).all()
