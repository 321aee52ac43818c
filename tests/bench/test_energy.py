"""Energy: counted, from power, stated, or unknown with its reason."""

import pytest

from edgewright.bench.energy import compute_energy
from edgewright.devices.protocol import Reading
from tests.bench.quick import make_samples


def test_a_counter() -> None:
    readings = [
        (Reading(energy_uj=1000, source="rapl"), Reading(energy_uj=4000, source="rapl"), 10, 0.1),
        (Reading(energy_uj=4000, source="rapl"), Reading(energy_uj=6000, source="rapl"), 15, 0.2),
    ]
    found = compute_energy([make_samples([100.0], readings=readings), make_samples([100.0], readings=readings)], 5.0)
    assert found.uj_per_inference == 200.0
    assert (found.evidence, found.source, found.inferences) == ("measured", "rapl", 50)


def test_a_power_sensor() -> None:
    readings = [(Reading(power_uw=2_000_000, source="ina"), Reading(power_uw=4_000_000, source="ina"), 3, 0.1)]
    found = compute_energy([make_samples([100.0, 200.0, 300.0], readings=readings)], None)
    assert found.uj_per_inference == pytest.approx(3.0 * 200.0)  # 3 W for 200 µs
    assert (found.evidence, found.source, found.inferences) == ("measured", "ina", 3)


def test_a_sensor_that_drops_out_is_not_half_believed() -> None:
    readings = [(Reading(energy_uj=1000, source="rapl"), Reading(source="gone"), 10, 0.1)]
    assert compute_energy([make_samples([100.0], readings=readings)], None).uj_per_inference is None


def test_stated_power() -> None:
    found = compute_energy([make_samples([100.0, 300.0])], 2.5)
    assert found.uj_per_inference == pytest.approx(500.0)
    assert found.evidence == "estimated"
    assert "2.5 W as stated by the user" in found.source


def test_unknown_says_why() -> None:
    why = Reading(source="no RAPL, hwmon or battery here")
    found = compute_energy([make_samples([100.0], readings=[(why, why, 1, 0.1)])], None)
    assert (found.uj_per_inference, found.evidence, found.source) == (None, "none", why.source)


@pytest.mark.parametrize("power_w", [None, 3.0])
def test_nothing_was_run(power_w: float | None) -> None:
    found = compute_energy([], power_w)
    assert (found.uj_per_inference, found.evidence, found.source) == (None, "none", "nothing was run")
