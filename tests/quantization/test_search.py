"""The search for operators that deserve better, and the measures that it goes by."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from edgewright.quantization.probe import OutputLoss, compare
from edgewright.quantization.search import Fidelity, FidelityTarget, estimate_flips, search_upgrades
from edgewright.schema.metrics import EQUAL_DB

HARMS = {name: float(2**-place) for place, name in enumerate("abcdefghijklmnopqrst")}
EVEN = dict.fromkeys(HARMS, 1.0)


def needing(wanted: int, asked: list[int]) -> Callable[[Sequence[str]], Fidelity]:
    """A network that is good enough once so many are treated better."""

    def evaluate(names: Sequence[str]) -> Fidelity:
        asked.append(len(names))
        return Fidelity(OutputLoss(10.0 ** -(len(names) + (2 if len(names) >= wanted else 0)), 0.0), None)

    return evaluate


@pytest.mark.parametrize("wanted", [1, 2, 3, 4, 5, 6])
def test_the_fewest_are_found(wanted: int) -> None:
    asked: list[int] = []
    found, accepted = search_upgrades(HARMS, EVEN, needing(wanted, asked), FidelityTarget(10.0 * wanted + 20, 1.0), 0.3)
    assert found == list(HARMS)[:wanted]
    assert accepted.loss.sqnr_db == pytest.approx(10 * wanted + 20)
    assert len(asked) == len(set(asked)) <= 6


def test_harm_counts_for_its_price() -> None:
    cost_by_node = {name: 100.0 if name == "a" else 1.0 for name in HARMS}
    found, _ = search_upgrades(HARMS, cost_by_node, needing(1, []), FidelityTarget(30.0, 1.0), 0.3)
    assert found == ["b"]


def test_where_nothing_is_enough_the_best_is_taken_and_not_all_are_tried() -> None:
    asked: list[int] = []
    found, _ = search_upgrades(HARMS, EVEN, needing(99, asked), FidelityTarget(500.0, 1.0), 0.3)
    assert len(found) == max(asked) == 6  # three in ten of twenty


def test_a_single_operator_may_be_treated_better() -> None:
    found, _ = search_upgrades({"a": 1.0}, {"a": 1.0}, needing(1, []), FidelityTarget(30.0, 1.0), 0.3)
    assert found == ["a"]


def test_what_meets_an_aim() -> None:
    assert Fidelity(OutputLoss(1e-3, 0.5), None).meets(FidelityTarget(29.0, 0.0))
    assert not Fidelity(OutputLoss(1e-3, 0.0), 0.1).meets(FidelityTarget(29.0, 0.05))
    assert not Fidelity(OutputLoss(1e-2, 0.0), 0.0).meets(FidelityTarget(29.0, 0.05))
    assert not Fidelity(OutputLoss(float("nan"), 0.0), None).meets(FidelityTarget(1.0, 1.0))


def test_expected_flips_grow_with_noise_and_with_narrow_margins() -> None:
    rng = np.random.default_rng(0)
    exact = [rng.standard_normal((1, 10)) * 3 for _ in range(200)]
    shares = [
        estimate_flips(exact, [one + rng.standard_normal((1, 10)) * noise for one in exact]) for noise in (0.05, 0.5)
    ]
    assert shares[0] is not None
    assert shares[1] is not None
    assert 0 < shares[0] < shares[1] < 0.5
    flips = compare(exact, [one + rng.standard_normal((1, 10)) * 0.5 for one in exact]).flips
    assert shares[1] == pytest.approx(flips, abs=0.06)
    assert estimate_flips(exact, exact) == 0.0
    assert estimate_flips([np.zeros((1, 1))], [np.zeros((1, 1))]) is None
    assert estimate_flips([np.zeros((1, 3, 2))], [np.zeros((1, 3, 2))]) is None


def test_losses() -> None:
    a = [np.array([1.0, 0.0]), np.array([0.0, 1.0])]
    assert compare(a, a) == OutputLoss(0.0, 0.0)
    assert compare(a, a).sqnr_db == EQUAL_DB
    loss = compare(a, [np.array([0.0, 1.0]), np.array([0.0, 1.0])])
    assert loss == OutputLoss(1.0, 0.5)
    assert loss.sqnr_db == 0.0
    nought = [np.zeros(2)]
    assert compare(nought, nought).noise == 0.0
    assert compare(nought, [np.ones(2)]).noise == 1.0
