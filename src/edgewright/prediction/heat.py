"""Heat of a device under load: two nodes and a step governor, and a linear rule beside them.

The default model has a board node that the chip heats and a body node that the hand feels. Each has a heat capacity
and a resistance to the next one; the air has a constant temperature. Every 5 seconds a governor lowers the clock by
one step if the board is at the step's temperature, and raises it again if the board is below that by the hysteresis.
Parameters by class come from fits of public 30-minute recordings of phones (DaedricKnight/megadetector-int8-ptq, MIT).
"""

from typing import Literal

from msgspec import Struct
from msgspec.structs import asdict, replace

STEP_S = 1.0
GOVERNOR_S = 5.0
REFERENCE_C = 25.0  # temperature at which `power_w` is stated
# Speeds of two scenarios that differ by less than this are not a difference.
UNCERTAINTY = 0.20

ModelName = Literal["two-node", "linear"]


class HeatParameters(Struct, frozen=True, kw_only=True):
    """One device in one place.

    Attributes:
        levels: speeds that the governor chooses from, as shares of the full speed, the first is 1.
        trips_c: board temperatures at which the governor takes the next level, one less than `levels`.
        hysteresis_k: how far below a trip the board must be before the level before it returns.
        body_j_k, board_j_k: heat capacities. body_k_w: resistance from body to air; board_k_w: from board to body.
        power_w: power at full speed with the board at 25 °C; leak_per_k: relative growth of it per kelvin.
        voltage_floor: share of the voltage that does not fall with the clock: power goes with f·(v + (1 − v)·f)².
        idle_w: power that does not depend on the load: screen, radio, charging.
    """

    levels: tuple[float, ...]
    trips_c: tuple[float, ...]
    hysteresis_k: float = 3.0
    body_j_k: float = 90.0
    body_k_w: float = 5.0
    board_j_k: float = 30.0
    board_k_w: float = 4.0
    power_w: float = 5.0
    leak_per_k: float = 0.003
    voltage_floor: float = 0.65
    idle_w: float = 0.4
    ambient_c: float = 25.0


# Ranges of the parameters over the recordings, for the band of a scenario: lowest and highest heating.
LIGHT = {"body_k_w": 2.6, "power_w": 3.0, "board_j_k": 38.0, "hysteresis_k": 1.0}
HEAVY = {"body_k_w": 7.0, "power_w": 8.0, "board_j_k": 21.0, "hysteresis_k": 5.0}
DEVICE_CLASSES = {
    "flagship": HeatParameters(levels=(1.0, 0.77, 0.58), trips_c=(44.0, 51.0), hysteresis_k=3.5, power_w=5.5),
    "upper-mid": HeatParameters(levels=(1.0, 0.86, 0.77), trips_c=(48.0, 49.0), hysteresis_k=1.4, power_w=5.2),
    "mid": HeatParameters(
        levels=(1.0, 0.85), trips_c=(40.0,), hysteresis_k=2.0, power_w=3.1, body_j_k=143.0, idle_w=0.7
    ),
}


class HeatState(Struct):
    """Temperatures of the two nodes, the level of the governor, and the energies so far."""

    board_c: float
    body_c: float
    level: int = 0
    elapsed_s: float = 0.0
    produced_j: float = 0.0
    lost_j: float = 0.0


class TwoNodeDevice:
    """A simulated device that is advanced step by step: a load in, a speed and a temperature out."""

    def __init__(self, parameters: HeatParameters, start_c: float | None = None) -> None:
        self.parameters = parameters
        start = parameters.ambient_c if start_c is None else start_c
        self.state = HeatState(board_c=start, body_c=start)

    @property
    def speed(self) -> float:
        """Return the share of the full speed that the governor allows now."""
        return self.parameters.levels[self.state.level]

    def advance(self, load: float = 1.0) -> float:
        """Advance by one second with a share of the time under load, and return the speed in that second."""
        parameters, state = self.parameters, self.state
        if state.elapsed_s % GOVERNOR_S == 0:
            self._govern()
        speed = self.speed
        dynamic = speed * (parameters.voltage_floor + (1 - parameters.voltage_floor) * speed) ** 2
        leak = max(0.0, 1 + parameters.leak_per_k * (state.board_c - REFERENCE_C))
        power = parameters.power_w * dynamic * leak * load
        across = (state.board_c - state.body_c) / parameters.board_k_w
        out = (state.body_c - parameters.ambient_c) / parameters.body_k_w
        state.board_c += STEP_S * (power - across) / parameters.board_j_k
        state.body_c += STEP_S * (across + parameters.idle_w - out) / parameters.body_j_k
        state.produced_j += STEP_S * (power + parameters.idle_w)
        state.lost_j += STEP_S * out
        state.elapsed_s += STEP_S
        return speed

    def _govern(self) -> None:
        trips, state = self.parameters.trips_c, self.state
        if state.level < len(trips) and state.board_c >= trips[state.level]:
            state.level += 1
        elif state.level and state.board_c < trips[state.level - 1] - self.parameters.hysteresis_k:
            state.level -= 1


class HeatCurve(Struct, frozen=True, kw_only=True):
    """Speed and temperature by minute.

    Attributes:
        speed: means of the minutes as shares of the full speed; of the linear model the value at each minute's start.
        temperature_c: of the body at the end of each minute.
        throttles_at_s: when the speed first was below 1; None if never.
        energy_j: produced as heat, without what the model does not know.
    """

    speed: tuple[float, ...]
    temperature_c: tuple[float, ...]
    throttles_at_s: float | None
    energy_j: float | None


def simulate_heat(
    parameters: HeatParameters, minutes: int, load: float = 1.0, start_c: float | None = None
) -> HeatCurve:
    """Return the curve of a device under a constant load, a share of the time from 0 to 1."""
    device, speeds, temperatures = TwoNodeDevice(parameters, start_c), [], []
    first: float | None = None
    for minute in range(minutes):
        within = []
        for second in range(60):
            within.append(device.advance(load))
            if first is None and within[-1] < 1:
                first = float(minute * 60 + second)
        speeds.append(sum(within) / len(within))
        temperatures.append(device.state.body_c)
    return HeatCurve(
        speed=tuple(speeds),
        temperature_c=tuple(temperatures),
        throttles_at_s=first,
        energy_j=device.state.produced_j,
    )


def compute_linear(minutes: int, start_c: float = 25.0) -> HeatCurve:
    """Return the linear rule: 2 °C a minute without end, and above 45 °C a speed of 1 − (T − 45)/30, at least 0.5.

    The rule has no equilibrium: a device that follows it gets hotter for ever. It stands here to be compared with.
    """
    temperatures = [start_c + 2.0 * minute for minute in range(minutes)]
    speeds = [1.0 if one <= 45 else max(0.5, 1 - (one - 45) / 30) for one in temperatures]
    slow = next((60.0 * minute for minute, one in enumerate(speeds) if one < 1), None)
    return HeatCurve(speed=tuple(speeds), temperature_c=tuple(temperatures), throttles_at_s=slow, energy_j=None)


class Band(Struct, frozen=True, kw_only=True):
    """Lowest and highest speed by minute over the range of devices of a class."""

    low: tuple[float, ...]
    high: tuple[float, ...]


def compute_band(parameters: HeatParameters, minutes: int, load: float = 1.0) -> Band:
    """Return the speeds of the lightest and the heaviest heating that recordings of phones show.

    What the recordings vary in is varied relative to the class: all of it at once, so that the band is wide.
    """
    middle = asdict(HeatParameters(levels=(1.0,), trips_c=()))

    def vary(ends: dict[str, float]) -> HeatParameters:
        own = asdict(parameters)
        return replace(parameters, **{key: own[key] * value / middle[key] for key, value in ends.items()})

    curves = [simulate_heat(one, minutes, load).speed for one in (vary(LIGHT), parameters, vary(HEAVY))]
    minutes_of = list(zip(*curves, strict=True))
    return Band(low=tuple(min(one) for one in minutes_of), high=tuple(max(one) for one in minutes_of))


def find_duty_cycle(parameters: HeatParameters, limit_c: float, minutes: int) -> float:
    """Return the largest share of the time under load that keeps the body at or below a temperature for that long.

    0 if the body is warmer even without load. The load is spread evenly, in slices shorter than a second.
    """
    low, high = 0.0, 1.0
    if _reaches(parameters, limit_c, minutes, high) is False:
        return 1.0
    if _reaches(parameters, limit_c, minutes, low):
        return 0.0
    while high - low > 0.005:
        middle = (low + high) / 2
        low, high = (low, middle) if _reaches(parameters, limit_c, minutes, middle) else (middle, high)
    return low


def _reaches(parameters: HeatParameters, limit_c: float, minutes: int, load: float) -> bool:
    return max(simulate_heat(parameters, minutes, load).temperature_c) > limit_c
