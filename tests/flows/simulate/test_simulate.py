"""Queues: known results, nothing lost, the search for servers, and fleets that are not possible."""

import json
from pathlib import Path

import numpy as np
import pytest

from edgewright.errors import ConfigError, EdgewrightError, UsageError
from edgewright.flows.simulate.flow import simulate_fleet
from edgewright.prediction.queues import Tier, draw_arrivals, simulate_tiers

FLEET = """
seconds = 20
warmup_seconds = 1
[arrivals]
devices = 1000
rate_per_s = 0.5
[[tiers]]
name = "phone"
servers = "device"
service_ms = 12
share = 0.6
[[tiers]]
name = "edge"
servers = 8
service_ms = [14, 15, 22]
queue = 100
link = {rtt_ms = 8, mbit = 50, bytes = 150528}
"""


def write(folder: Path, text: str = FLEET) -> Path:
    path = folder / "tiers.toml"
    path.write_text(text)
    return path


def test_one_server_with_exponential_times_waits_as_theory_says() -> None:
    """M/M/1 at a load of 0.7: the mean time in the system is 1 / (μ − λ)."""
    random = np.random.default_rng(0)
    tier = Tier("one", 1, 10**9, 1.0, lambda n: random.exponential(10.0, n), lambda n: np.zeros(n))
    outcome = simulate_tiers((tier,), draw_arrivals(1, 70.0, 3000.0, random), random)
    assert outcome.latency_ms.mean() == pytest.approx(1e3 / (100 - 70), rel=0.05)
    assert outcome.tiers[0].utilization == pytest.approx(0.7, rel=0.02)


def test_constant_times_of_two_servers() -> None:
    """Three requests at once on two servers of 10 ms: 10, 10 and 20 ms; with a queue of 0 the third is dropped."""
    random = np.random.default_rng(0)
    arrivals = np.zeros(3), np.arange(3)
    for queue, latencies in ((5, [10, 10, 20]), (0, [10, 10])):
        tier = Tier("two", 2, queue, 1.0, lambda n: np.full(n, 10.0), lambda n: np.zeros(n))
        outcome = simulate_tiers((tier,), arrivals, random)
        assert sorted(outcome.latency_ms.tolist()) == latencies
        assert outcome.tiers[0].dropped == 3 - len(latencies)


def test_a_device_answers_its_own_requests_only() -> None:
    random = np.random.default_rng(0)
    tier = Tier("phone", None, 5, 1.0, lambda n: np.full(n, 10.0), lambda n: np.zeros(n))
    outcome = simulate_tiers((tier,), (np.zeros(3), np.array([0, 1, 1])), random)
    assert sorted(outcome.latency_ms.tolist()) == [10, 10, 20]


def test_a_fleet(tmp_path: Path) -> None:
    report = simulate_fleet(write(tmp_path))
    phone, edge = report.tiers
    assert phone.arrived == report.requests == phone.answered
    assert edge.arrived == pytest.approx(0.4 * phone.arrived, rel=0.1)
    assert report.dropped == 0
    assert report.p50_ms == pytest.approx(12.0)
    assert report.p95_ms is not None
    assert report.p95_ms > 12 + 8 + 24 + 14  # the way to the edge and back, its bytes, and the shortest inference
    assert set(report.utilization) == {"phone", "edge"}
    assert report.low["p95_ms"] <= report.p95_ms <= report.high["p95_ms"]
    assert simulate_fleet(write(tmp_path)) == report


def test_the_smallest_number_of_servers(tmp_path: Path) -> None:
    path = write(tmp_path)
    found = simulate_fleet(path, goals="p99<=100ms", find="edge").servers["edge"]
    assert not simulate_fleet(write(tmp_path, FLEET.replace("= 8", f"= {found}")), goals="p99<=100ms").missed
    fewer = simulate_fleet(write(tmp_path, FLEET.replace("= 8", f"= {found - 1}")), goals="p99<=100ms")
    assert fewer.missed or fewer.dropped


def test_measured_times_and_links(tmp_path: Path) -> None:
    (tmp_path / "times.json").write_text("[14000, 15000, 16000]")
    (tmp_path / "link.csv").write_text("rtt_ms,mbit\n8,50\n20,10\n")
    text = FLEET.replace("service_ms = [14, 15, 22]", 'profile = "times.json"').replace(
        "rtt_ms = 8, mbit = 50", 'trace = "link.csv"'
    )
    assert simulate_fleet(write(tmp_path, text)).p95_ms is not None
    run = {"run": {"series": [{"name": "wall", "unit": "us", "data": [14000.0, 15000.0, 16000.0]}]}}
    (tmp_path / "times.json").write_text(json.dumps(run))
    assert simulate_fleet(write(tmp_path, text)).p95_ms is not None
    for content in ("[]", "{}", "[-1]", '{"run": {"series": []}}', "x"):
        (tmp_path / "times.json").write_text(content)
        with pytest.raises(ConfigError, match="no profile"):
            simulate_fleet(write(tmp_path, text))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("seconds = 20", "seconds = -1"),
        ("devices = 1000", "devices = 0"),
        ("rate_per_s = 0.5", "rate_per_s = nan"),
        ("rate_per_s = 0.5", "rate_per_s = 1e6"),
        ('"device"', '"phones"'),
        ("servers = 8", "servers = 0"),
        ("share = 0.6", "share = 1.5"),
        ("service_ms = 12", ""),
        ("[14, 15, 22]", "[]"),
        ("[14, 15, 22]", "-3"),
        ("mbit = 50", "mbit = 0"),
        ('"edge"', '"phone"'),
        ("queue = 100", "queues = 100"),
        ("[arrivals]", "[arrival]"),
        ("seconds = 20", "seconds ="),
    ],
)
def test_fleets_that_are_not_possible(tmp_path: Path, old: str, new: str) -> None:
    with pytest.raises(ConfigError):
        simulate_fleet(write(tmp_path, FLEET.replace(old, new, 1)))


@pytest.mark.parametrize(
    ("goals", "find"),
    [("p99<=2x", ""), ("drop<1", ""), ("", "edge"), ("p99<=100ms", "fog"), ("p99<=1ms", "phone")],
)
def test_goals_and_searches_that_mean_nothing(tmp_path: Path, goals: str, find: str) -> None:
    with pytest.raises(EdgewrightError) as caught:
        simulate_fleet(write(tmp_path), goals=goals, find=find)
    assert isinstance(caught.value, UsageError)
