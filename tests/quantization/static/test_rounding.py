"""Rounding of rows under second moments: never worse than the nearest, and on tiny rows the best there is."""

from itertools import product

import numpy as np
import pytest

from edgewright.quantization.static.rounding import (
    RowQuantParams,
    compute_cost,
    compute_row_params,
    damp,
    get_integer_limits,
    round_nearest,
    round_rows,
    search_row_params,
)
from edgewright.schema.arrays import Array


def make_problem(groups: int, outputs: int, depth: int, seed: int) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    columns = rng.standard_normal((groups, depth, 3 * depth)) @ np.diag(np.linspace(0.1, 2, 3 * depth))
    mixed = np.einsum("gkj,gjp->gkp", rng.standard_normal((groups, depth, depth)), columns)
    return rng.standard_normal((groups, outputs, depth)), mixed @ mixed.transpose(0, 2, 1) / columns.shape[2]


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize(("groups", "outputs", "depth"), [(1, 6, 150), (16, 1, 9), (2, 3, 1)])
def test_it_is_never_worse_than_the_nearest(bits: int, groups: int, outputs: int, depth: int) -> None:
    rows, h = make_problem(groups, outputs, depth, seed=depth)
    h = damp(h)
    row_params = search_row_params(rows, h, bits)
    found, plain = round_rows(rows, h, row_params), round_nearest(rows, row_params)
    costs, plain_costs = compute_cost(rows, found, h, row_params), compute_cost(rows, plain, h, row_params)
    assert np.all(costs <= plain_costs)
    if depth > 1:
        assert costs.sum() < 0.95 * plain_costs.sum()
    assert np.array_equal(found, np.rint(found))
    assert found.min() >= row_params.low
    assert found.max() <= row_params.high


def test_it_closes_most_of_the_gap_to_the_best_of_all_roundings() -> None:
    outputs = 30
    rows, h = make_problem(1, outputs, 4, seed=3)
    h = damp(h)
    row_params = compute_row_params(rows, 4)
    found = compute_cost(rows, round_rows(rows, h, row_params), h, row_params)[0]
    nearest = compute_cost(rows, round_nearest(rows, row_params), h, row_params)[0]
    best = np.array([best_of_all(rows, h, row_params, row) for row in range(outputs)])
    assert np.all(best <= found + 1e-12)
    assert (found - best).sum() < 0.3 * (nearest - best).sum()
    assert np.sum(found <= best + 1e-12) > outputs / 2


def best_of_all(rows: Array, h: Array, row_params: RowQuantParams, row: int) -> float:
    """The least cost of any integers that lie within two steps of a row."""
    floor = np.floor(rows[0, row] / row_params.scale[0, row])
    tried = np.array([floor + steps for steps in product((-1, 0, 1, 2), repeat=4)])
    tried = tried[np.all(np.abs(tried) <= row_params.high, axis=1)]
    error = rows[0, row] - tried * row_params.scale[0, row]
    return float(((error @ h[0]) * error).sum(axis=1).min())


def test_rows_that_need_no_rounding_stay() -> None:
    row_params = RowQuantParams(np.array([[0.5, 0.25]]), *get_integer_limits(8))
    stored = np.random.default_rng(1).integers(-20, 21, (1, 2, 12)).astype(float)
    _, h = make_problem(1, 2, 12, seed=2)
    assert np.array_equal(round_rows(row_params.real(stored), damp(h), row_params), stored)


def test_the_grid_holds_the_largest_value_and_is_symmetric() -> None:
    assert get_integer_limits(8) == (-127, 127)
    assert get_integer_limits(4) == (-7, 7)
    rows = np.array([[[1.0, -3.0], [0.0, 0.0]]])
    row_params = compute_row_params(rows, 8)
    assert row_params.scale[0, 0] == 3 / 127
    assert row_params.scale[0, 1] > 0  # nothing is divided by it
    assert round_nearest(rows, row_params)[0, 0].tolist() == [42, -127]


def test_a_grid_may_cut_a_value_that_hardly_counts() -> None:
    rows = np.array([[[10.0, 1.0, 0.9, 0.8, 0.7, 0.33]]])
    power = np.diag([1e-6, 1, 1, 1, 1, 1])[None]
    assert search_row_params(rows, power, 4).scale[0, 0] < compute_row_params(rows, 4).scale[0, 0]
    assert (
        search_row_params(rows, np.diag([1e6, 1, 1, 1, 1, 1])[None], 4).scale[0, 0]
        == compute_row_params(rows, 4).scale[0, 0]
    )


def test_damping_makes_any_moments_invertible() -> None:
    for h in (np.zeros((1, 3, 3)), np.ones((1, 3, 3)), np.diag([0.0, 0.0, 5.0])[None]):
        damped = damp(h)
        assert np.all(np.linalg.eigvalsh(damped) > 0)
        assert np.allclose(damped - h, np.eye(3) * damped[0, 0, 0] - h[0, 0, 0] * np.eye(3))
        rows = np.random.default_rng(0).standard_normal((1, 2, 3))
        assert np.isfinite(round_rows(rows, damped, compute_row_params(rows, 8))).all()
