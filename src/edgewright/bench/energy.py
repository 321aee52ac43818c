"""Energy per inference, measured by a sensor or estimated from power that the user states."""

from collections.abc import Sequence
from statistics import mean
from typing import Literal

from msgspec import Struct

from edgewright.bench.session import ProcessSamples
from edgewright.devices.protocol import Reading


class Energy(Struct, frozen=True, kw_only=True):
    """Microjoules of one inference, or None; `source` is the sensor, or why there is no value."""

    uj_per_inference: float | None
    evidence: Literal["measured", "estimated", "none"]
    source: str
    inferences: int = 0


def compute_energy(processes: Sequence[ProcessSamples], power_w: float | None) -> Energy:
    """Return the energy of the steady part of all processes per inference.

    A counter (RAPL, hwmon) gives the energy between two readings; a power sensor gives the mean of the two readings
    times the time between them. Both include the whole package or device and its idle power.
    """
    readings = [reading for process in processes for reading in process.readings]
    inferences = sum(count for _, _, count, _ in readings)
    counted = _sum_counter_uj([(before, after) for before, after, _, _ in readings])
    if counted is not None and inferences:
        return Energy(
            uj_per_inference=counted / inferences,
            evidence="measured",
            source=readings[0][0].source,
            inferences=inferences,
        )
    powers = [power for before, after, _, _ in readings for power in (before.power_uw, after.power_uw)]
    if powers and all(power is not None for power in powers):
        return _compute_from_power(
            processes, mean(power for power in powers if power is not None), "measured", readings[0][0].source
        )
    if power_w is not None:
        return _compute_from_power(processes, power_w * 1e6, "estimated", f"{power_w:g} W as stated by the user × time")
    return Energy(
        uj_per_inference=None, evidence="none", source=readings[0][0].source if readings else "nothing was run"
    )


def _sum_counter_uj(pairs: Sequence[tuple[Reading, Reading]]) -> float | None:
    """Return the microjoules counted between the readings; None without a counter."""
    total = 0
    for before, after in pairs:
        if before.energy_uj is None or after.energy_uj is None:
            return None
        total += after.energy_uj - before.energy_uj
    return float(total) if pairs else None


def _compute_from_power(
    processes: Sequence[ProcessSamples], power_uw: float, evidence: Literal["measured", "estimated"], source: str
) -> Energy:
    """Return power times the mean wall time of an inference."""
    wall = [sample for process in processes for sample in process.wall_us]
    if not wall:
        return Energy(uj_per_inference=None, evidence="none", source="nothing was run")
    return Energy(uj_per_inference=power_uw * mean(wall) / 1e6, evidence=evidence, source=source, inferences=len(wall))
