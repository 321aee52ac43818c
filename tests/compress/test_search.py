"""The search for operators that deserve better, and the measures that it goes by."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from edgewright.compress.probe import EXACT_DB, Loss, compare
from edgewright.compress.search import Aim, Judgement, expect_flips, find_better

HARMS = {name: float(2**-place) for place, name in enumerate("abcdefghijklmnopqrst")}
EVEN = dict.fromkeys(HARMS, 1.0)


def needing(wanted: int, asked: list[int]) -> Callable[[Sequence[str]], Judgement]:
    """A network that is good enough once so many are treated better."""

    def judge(names: Sequence[str]) -> Judgement:
        asked.append(len(names))
        return Judgement(Loss(10.0 ** -(len(names) + (2 if len(names) >= wanted else 0)), 0.0), None)

    return judge


@pytest.mark.parametrize("wanted", [1, 2, 3, 4, 5, 6])
def test_the_fewest_are_found(wanted: int) -> None:
    asked: list[int] = []
    found, judged = find_better(HARMS, EVEN, needing(wanted, asked), Aim(10.0 * wanted + 20, 1.0), 0.3)
    assert found == list(HARMS)[:wanted]
    assert judged.loss.sqnr_db == pytest.approx(10 * wanted + 20)
    assert len(asked) == len(set(asked)) <= 6


def test_harm_counts_for_its_price() -> None:
    prices = {name: 100.0 if name == "a" else 1.0 for name in HARMS}
    found, _ = find_better(HARMS, prices, needing(1, []), Aim(30.0, 1.0), 0.3)
    assert found == ["b"]


def test_where_nothing_is_enough_the_best_is_taken_and_not_all_are_tried() -> None:
    asked: list[int] = []
    found, _ = find_better(HARMS, EVEN, needing(99, asked), Aim(500.0, 1.0), 0.3)
    assert len(found) == max(asked) == 6  # three in ten of twenty


def test_a_single_operator_may_be_treated_better() -> None:
    found, _ = find_better({"a": 1.0}, {"a": 1.0}, needing(1, []), Aim(30.0, 1.0), 0.3)
    assert found == ["a"]


def test_what_meets_an_aim() -> None:
    assert Judgement(Loss(1e-3, 0.5), None).meets(Aim(29.0, 0.0))
    assert not Judgement(Loss(1e-3, 0.0), 0.1).meets(Aim(29.0, 0.05))
    assert not Judgement(Loss(1e-2, 0.0), 0.0).meets(Aim(29.0, 0.05))
    assert not Judgement(Loss(float("nan"), 0.0), None).meets(Aim(1.0, 1.0))


def test_expected_flips_grow_with_noise_and_with_narrow_margins() -> None:
    rng = np.random.default_rng(0)
    exact = [rng.standard_normal((1, 10)) * 3 for _ in range(200)]
    shares = [
        expect_flips(exact, [one + rng.standard_normal((1, 10)) * noise for one in exact]) for noise in (0.05, 0.5)
    ]
    assert shares[0] is not None
    assert shares[1] is not None
    assert 0 < shares[0] < shares[1] < 0.5
    told = compare(exact, [one + rng.standard_normal((1, 10)) * 0.5 for one in exact]).flips
    assert shares[1] == pytest.approx(told, abs=0.06)
    assert expect_flips(exact, exact) == 0.0
    assert expect_flips([np.zeros((1, 1))], [np.zeros((1, 1))]) is None
    assert expect_flips([np.zeros((1, 3, 2))], [np.zeros((1, 3, 2))]) is None


def test_losses() -> None:
    a = [np.array([1.0, 0.0]), np.array([0.0, 1.0])]
    assert compare(a, a) == Loss(0.0, 0.0)
    assert compare(a, a).sqnr_db == EXACT_DB
    loss = compare(a, [np.array([0.0, 1.0]), np.array([0.0, 1.0])])
    assert loss == Loss(1.0, 0.5)
    assert loss.sqnr_db == 0.0
    nought = [np.zeros(2)]
    assert compare(nought, nought).noise == 0.0
    assert compare(nought, [np.ones(2)]).noise == 1.0
