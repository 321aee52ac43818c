"""ONNX's own node tests: nothing may be wrong, and the page of coverage says what came out."""

import pytest

from edgewright.runtimes.litert.writer.operators import TABLE
from tests.runtimes.litert.writer.node_tests import Case, Outcome, is_outside, list_cases, run_case

WANTED = 0.90  # share of the cases that LiteRT can express
# The writer's own operator, and such as only cases in old opsets or in float64 are made for: see test_families.
WITHOUT_CASES = {"Requantize", "ReduceLogSumExp", "Shrink", "Xor", "Einsum"}

Results = list[tuple[Case, Outcome]]


@pytest.fixture(scope="module")
def results() -> Results:
    return [(case, run_case(case)) for case in list_cases()]


def test_no_case_is_wrong(results: Results) -> None:
    assert {case.name: outcome.why for case, outcome in results if outcome.state == "wrong"} == {}


def test_most_cases_that_litert_can_express_pass(results: Results) -> None:
    states = [outcome.state for _, outcome in results if not is_outside(outcome)]
    assert states.count("passed") / len(states) >= WANTED


def test_every_operator_of_the_table_has_a_case_that_passes(results: Results) -> None:
    proven = {op for case, outcome in results if outcome.state == "passed" for op in case.operators}
    assert set(TABLE) - proven - WITHOUT_CASES == set()


def test_rejections_say_why(results: Results) -> None:
    assert all(len(outcome.why) > 20 for _, outcome in results if outcome.state == "refused")
