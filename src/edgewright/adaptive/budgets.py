"""A budget of a stream: what it allows, and which variant and share of the frames hold it.

CPU share is the CPU time of this process over wall time and online cores. Latency is from the offer of a frame to its
result. A part that cannot be measured, or that the lightest variant does not hold, is reported with the reason.
"""

from collections import deque
from collections.abc import Sequence

from msgspec import Struct

from edgewright.errors import UsageError

WINDOW_S = 5.0
FEWEST_FRAMES = 8
QUANTILE = 0.9  # of the latencies that must be within the budget
RETURN_S = 60.0  # before a fuller variant is tried again
RETURN_SHARE = 0.8  # of the budget that the fuller one is expected to need at most
SMALLEST_DUTY = 0.05
LIGHTER_DUTY = 0.5  # share of frames from which a lighter variant is better


class Budget(Struct, frozen=True, kw_only=True):
    """Limits of a stream; None is without limit.

    Attributes:
        latency_ms: of a frame, from its offer to its result; 90 % of the frames hold it.
        cpu_share: of all online cores, 0 to 1.
        energy_mj: per frame that has a result.
        min_quality: smallest metric of a variant that may run, in the bundle's own metric.
    """

    latency_ms: float | None = None
    cpu_share: float | None = None
    energy_mj: float | None = None
    min_quality: float | None = None

    def __post_init__(self) -> None:
        limits = (("latency_ms", self.latency_ms), ("cpu_share", self.cpu_share), ("energy_mj", self.energy_mj))
        for name, value in limits:
            if value is not None and not 0 < value < float("inf"):
                raise UsageError(f"{name}={value:g} is not possible", "it must be above 0", f"Budget({name}=…)")
        if self.cpu_share is not None and self.cpu_share > 1:
            why = "it is the share of all cores, 0 to 1"
            raise UsageError(f"cpu_share={self.cpu_share:g} is not possible", why, "Budget(cpu_share=0.3)")


class BudgetPart(Struct, frozen=True, kw_only=True):
    """One part of a budget: whether it is held; None if it is not known, with the reason."""

    name: str
    limit: float
    measured: float | None
    held: bool | None
    why: str = ""


class UsageSample(Struct, frozen=True):
    """What was used up to a moment: seconds, CPU seconds of the process, energy in microjoules if it is known."""

    t_s: float
    cpu_s: float
    energy_uj: int | None = None
    results: int = 0


class BudgetKeeper:
    """Chooses the variant and the duty that hold a budget, from what is measured.

    Args:
        p50_us: median time of each variant in the bundle, the fullest first; None if unknown.
        cores: online cores.
    """

    def __init__(self, budget: Budget, p50_us: Sequence[float | None], cores: int) -> None:
        self._budget, self._p50_us, self._cores = budget, p50_us, cores
        self.position, self.duty = 0, 1.0
        self._latencies: deque[float] = deque(maxlen=64)
        self._samples: deque[UsageSample] = deque(maxlen=256)
        self._changed_s = float("-inf")
        self._share: float | None = None  # of the last window that was long enough

    def add_latency(self, seconds: float) -> None:
        """Add the latency of a frame with a result."""
        self._latencies.append(seconds * 1e3)

    def update(self, sample: UsageSample) -> None:
        """Advance to a moment, and choose anew."""
        self._samples.append(sample)
        while len(self._samples) > 2 and self._samples[1].t_s < sample.t_s - WINDOW_S:
            self._samples.popleft()
        if self._changed_s == float("-inf"):
            self._changed_s = sample.t_s
        lighter = self._is_above("latency_ms", self._find_latency()) or self._is_above("energy_mj", self._find_energy())
        lighter = self._hold_share() or lighter
        if lighter and self.position + 1 < len(self._p50_us):
            self._move(self.position + 1, sample.t_s)
        elif not lighter and self.position and self._may_return(sample.t_s):
            self._move(self.position - 1, sample.t_s)

    def _move(self, position: int, t_s: float) -> None:
        self.position, self._changed_s = position, t_s
        self.duty, self._share = 1.0, None
        self._latencies.clear()
        self._samples.clear()

    def _hold_share(self) -> bool:
        """Set the duty that holds the CPU share; return whether a lighter variant is better than such a duty."""
        share, limit = self._find_share(), self._budget.cpu_share
        if share is not None:
            self._share = share
        if share is None or limit is None:
            return False
        if share > limit:
            self.duty = max(SMALLEST_DUTY, self.duty * max(limit / share, 0.5))
            self._samples.clear()
        elif share < 0.9 * limit and self.duty < 1.0:
            self.duty = min(1.0, self.duty * 1.1)
        return self.duty < LIGHTER_DUTY

    def _may_return(self, t_s: float) -> bool:
        latency, limit = self._find_latency(), self._budget.latency_ms
        if t_s - self._changed_s < RETURN_S or self.duty < 1.0:
            return False
        if latency is None or limit is None:
            return limit is None
        own, fuller = self._p50_us[self.position], self._p50_us[self.position - 1]
        return bool(own and fuller) and latency * ((fuller or 1) / (own or 1)) <= RETURN_SHARE * limit

    def _is_above(self, name: str, measured: float | None) -> bool:
        limit = getattr(self._budget, name)
        return limit is not None and measured is not None and measured > limit

    def _find_latency(self) -> float | None:
        if len(self._latencies) < FEWEST_FRAMES:
            return None
        return sorted(self._latencies)[int(QUANTILE * (len(self._latencies) - 1))]

    def _find_share(self) -> float | None:
        if len(self._samples) < 2:
            return None
        first, last = self._samples[0], self._samples[-1]
        wall = last.t_s - first.t_s
        return (last.cpu_s - first.cpu_s) / (wall * self._cores) if wall >= WINDOW_S / 5 else None

    def _find_energy(self) -> float | None:
        if len(self._samples) < 2:
            return None
        first, last = self._samples[0], self._samples[-1]
        results = last.results - first.results
        if first.energy_uj is None or last.energy_uj is None or results < FEWEST_FRAMES:
            return None
        return (last.energy_uj - first.energy_uj) / results / 1e3

    def report(self) -> tuple[BudgetPart, ...]:
        """Return each part of the budget that has a limit."""
        has_energy = any(one.energy_uj is not None for one in self._samples)
        parts = (
            ("latency_ms", self._find_latency(), f"fewer than {FEWEST_FRAMES} frames have a result yet"),
            ("cpu_share", self._share, "the stream runs for less than a second"),
            (
                "energy_mj",
                self._find_energy(),
                "too few frames yet" if has_energy else "this device has no energy sensor",
            ),
        )
        return tuple(
            self._describe(name, measured, unknown)
            for name, measured, unknown in parts
            if getattr(self._budget, name) is not None
        )

    def _describe(self, name: str, measured: float | None, unknown: str) -> BudgetPart:
        limit: float = getattr(self._budget, name)
        if measured is None:
            return BudgetPart(name=name, limit=limit, measured=None, held=None, why=unknown)
        held = measured <= limit
        is_last = self.position + 1 >= len(self._p50_us)
        least = "the lightest variant that may run needs more" if is_last else "a lighter variant follows"
        if name == "cpu_share" and self.duty > SMALLEST_DUTY:
            least = "fewer frames are run from now on"
        return BudgetPart(name=name, limit=limit, measured=measured, held=held, why="" if held else least)
