"""The interface of a device, on which workers are started."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

from msgspec import Struct

from edgewright.devices.connection import Connection
from edgewright.schema.devices import DeviceCheck
from edgewright.schema.run import DeviceRecord as DeviceFacts


class Reading(Struct, frozen=True, kw_only=True):
    """Readings of all sensors at one moment; a quantity without a sensor is None.

    Attributes:
        energy_uj: a running count of microjoules; the difference of two readings is the energy between them.
        power_uw: power at this moment, microwatts.
        temperature_c: the hottest thermal zone.
        frequency_khz: mean current frequency of the processors.
        source: the sensor of energy or power, such as `rapl:package-0`; without one, the reason.
    """

    energy_uj: int | None = None
    power_uw: int | None = None
    temperature_c: float | None = None
    frequency_khz: float | None = None
    source: str


class Device(Protocol):
    """A connection to one device. Paths given to a worker are paths on the device."""

    def facts(self) -> DeviceFacts:
        """Return the stable facts of the device (processor, memory, system)."""

    def environment(self) -> dict[str, Any]:
        """Return everything beside the plan that can change a result: stable facts, governor, kernel, package versions,
        Edgewright's version, and the environment variables that matter. Plain JSON values.

        Where isolated environments are set up, `locks` has the sha256 of each one's lock by its name.
        """

    def checks(self) -> list[DeviceCheck]:
        """Return what distorts measurements on the device now; see `checks`."""

    def system_state(self) -> dict[str, float]:
        """Return the changing state: load averages, pressure (PSI), free memory and swap in use.

        Keys are those of `devices/system_state.py` that the system reports.
        """

    def prepare(self, runtime: str) -> None:
        """Make the worker of a runtime available, if the device lacks it. Raises RuntimeMissing, DeviceUnreachable."""

    def push(self, path: Path, sha256: str, beside: Mapping[str, Path] = MappingProxyType({})) -> str:
        """Make the file available on the device, unless it already is, and return its path there.

        `sha256` identifies the file and those `beside` it, which are keyed by their names relative to its folder. An
        empty one is for a file that is needed until the next one of its name: it is removed by `close`.
        """

    def pull(self, remote: str, path: Path) -> None:
        """Copy a file or folder from the device."""

    def workspace(self) -> str:
        """Return a folder on the device for traces and tensors, empty at first, removed by `close`."""

    def start_worker(
        self,
        runtime: str,
        affinity: Sequence[int],
        timeout_s: float,
        log: Path,
        environment: str = "",
        variables: Mapping[str, str] = MappingProxyType({}),
    ) -> Connection:
        """Start a fresh worker; its stderr goes to `log`. Raises RuntimeMissing, WorkerError.

        It runs in the isolated `environment` of that name; without one in the runtime's own, if the user has set it
        up, else in our own interpreter (`runtimes/environments.py`).
        `variables` are added to its environment variables.
        """

    def sensors(self) -> Reading:
        """Read the sensors once."""

    def close(self) -> None:
        """Release the device."""
