"""The table of metrics: what the pages color, list and compare."""

import pytest

from edgewright.schema.metrics import METRICS, get_metric_info, is_share
from edgewright.schema.run import Metric, Run
from edgewright.tasks.spec.task import BUILTIN_METRICS
from edgewright.web.pages.comparison import make_figure_rows


def test_every_metric_of_a_task_has_a_row_with_a_direction() -> None:
    assert {name for name, info in METRICS.items() if info.basis == "task"} == set(BUILTIN_METRICS)
    assert all(METRICS[name].better for name in BUILTIN_METRICS)


@pytest.mark.parametrize(
    ("name", "mark"),
    [
        ("cold_start", "slower"),
        ("top1", "faster"),
        ("numerics.sqnr", "faster"),
        ("quantize.sqnr", "faster"),
        ("mae", "slower"),
    ],
)
def test_a_higher_value_is_colored_by_its_direction(name: str, mark: str) -> None:
    runs = [
        make_run(Metric(name=name, unit="1", value=value, low=value - 1, high=value + 1, n=8)) for value in (10.0, 20.0)
    ]
    ((first, second),) = [row.cells for row in make_figure_rows(runs)]
    assert (first.mark, second.mark) == ("", mark)


def test_a_metric_that_is_not_known_has_no_direction() -> None:
    assert get_metric_info("own.py:score").better == ""
    assert not is_share("own.py:score")
    assert is_share("share.unit.CPU")


def make_run(metric: Metric) -> Run:
    return Run(id="01M00000000000000000000000", kind="benchmark", state="done", started_at="", metrics=(metric,))
