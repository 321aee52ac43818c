"""What a machine lacks for a benchmark, where a runtime may come from an isolated environment."""

from collections.abc import Mapping
from typing import Any

import pytest

from edgewright.devices.pretend import PretendDevice
from edgewright.errors import RuntimeMissing
from edgewright.flows.benchmark import flow
from edgewright.flows.benchmark.flow import check_host
from edgewright.schema.plan import BenchmarkPlan, Candidate


class WithLocks(PretendDevice):
    """A device that reports environments."""

    def __init__(self, locks: Mapping[str, str]) -> None:
        super().__init__()
        self._locks = dict(locks)

    def environment(self) -> dict[str, Any]:
        return {"locks": self._locks} if self._locks else {}


PLAN = BenchmarkPlan(candidates=(Candidate(model="m.mnn", runtime="mnn"),))


@pytest.mark.parametrize("locks", [{}, {"onnx2tf": "1"}])
def test_a_runtime_that_is_not_installed_is_missing(locks: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow, "find_spec", lambda name: None)
    with pytest.raises(RuntimeMissing, match="mnn"):
        check_host(PLAN, WithLocks(locks))


def test_one_with_an_environment_of_its_own_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow, "find_spec", lambda name: None)
    check_host(PLAN, WithLocks({"mnn": "1"}))
