"""A bundle in use: variants, budget, policy, settings of the system and monitor in one object."""

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec
import platformdirs
from msgspec import Struct

from edgewright.adaptive.budgets import Budget, BudgetKeeper, BudgetPart, UsageSample
from edgewright.adaptive.bundle import BUNDLE_FILE, Bundle, Variant, choose_variant, read_bundle
from edgewright.adaptive.controls import AppliedControl, Controls, SystemControls, count_threads
from edgewright.adaptive.governor import BUILT_IN
from edgewright.adaptive.guardian import Guardian
from edgewright.adaptive.monitor import FrameRecord, Monitor
from edgewright.adaptive.pipeline import Pipeline, Stage, StreamSettings
from edgewright.adaptive.policy import Action, Policy, StateMachine
from edgewright.adaptive.sources import SystemSignals
from edgewright.adaptive.steering import Choice, ExecutionPolicy, Source, Steering, SteeringHandlers
from edgewright.adaptive.variants import LoadedVariant
from edgewright.devices.cgroup import read_cgroup_limits
from edgewright.devices.cpu import read_cpu_facts
from edgewright.devices.sensors import find_sensors
from edgewright.devices.sysfs import read_meminfo
from edgewright.errors import ConfigError, EdgewrightError, UsageError
from edgewright.system.files import write_atomically

if sys.platform != "linux":
    raise ImportError("edgewright.adaptive needs Linux for this")

DEADLINE_S = 1.0  # of a frame without a budget of latency
LITE_DUTY = 0.5


class SessionSettings(Struct, frozen=True, kw_only=True):
    """How a bundle is used.

    Attributes:
        policy: a policy that is built in, by name; a table; or an object of your own.
        variant: name of the fullest variant that may run, instead of the choice by this device.
        tier: of the device, if it is known.
        threads: of an inference; default: the cores of the fastest cluster, at most 4.
        controls: settings of the system for the inference's thread.
        spread: whether the inference runs on big cores, and the other stages on little ones, where they differ.
        mapped: whether weights are mapped from the file where the runtime can.
        stream: see `pipeline.StreamSettings`; default: newest frames, with the budget's latency as deadline.
        root: folder in which /sys and /proc are read and written.
        signals: returns the raw signals; default: those of the system.
        cache: folder for the remembered choice.
        open_variant: loads a variant: folder, variant, threads and options of the runtime.
        clock: of the policy's times, in seconds.
        period_s: between two readings of the signals, in real seconds.
    """

    policy: str | Policy | ExecutionPolicy = "governor"
    variant: str = ""
    tier: str = ""
    threads: int | None = None
    controls: Controls = Controls()
    spread: bool = True
    mapped: bool = True
    stream: StreamSettings | None = None
    root: Path = Path("/")
    signals: Source | None = None
    cache: Path | None = None
    open_variant: Callable[[Path, Variant, int, Mapping[str, str]], LoadedVariant] = LoadedVariant
    clock: Callable[[], float] = time.monotonic
    period_s: float = 1.0


NO_LIMITS, DEFAULTS = Budget(), SessionSettings()


class AdaptiveSession:
    """Runs frames with the variant that the device, a budget and a policy allow; used in a `with` block.

    A call returns the result of one frame, or None if the policy, the budget or an error left it out; `offer` passes a
    frame to the stream without waiting, and `on_result` gets its result.

    Args:
        bundle: folder of `edgewright bundle`.
        budget: limits that are held, or reported as not held.
        pre: frame → inputs by name; default: the frame has them. post: outputs by name → result.
        settings: see `SessionSettings`.

    Attributes:
        monitor: what happens in the stream.
        why: why the first variant was chosen.

    Raises:
        ConfigError: the folder is no bundle. UsageError: no variant fits the settings. ModelRejected: none loads.

    Example:
        >>> import edgewright
        >>> budget = edgewright.Budget(latency_ms=200, cpu_share=0.3)
        >>> with edgewright.AdaptiveSession("app.bundle", budget) as session:  # doctest: +SKIP
        ...     result = session({"image": image})
        ...     session.report()
    """

    def __init__(
        self,
        bundle: str | Path,
        budget: Budget = NO_LIMITS,
        *,
        pre: Stage = lambda frame: frame,
        post: Stage = lambda outputs: outputs,
        settings: SessionSettings = DEFAULTS,
    ) -> None:
        self.monitor = Monitor()
        self.on_result: Callable[[int, Any], object] = _ignore
        self._folder, self._settings = Path(bundle), settings
        self._threads = settings.threads or count_threads(settings.root)
        self._ladder = _list_allowed(read_bundle(self._folder), budget, settings)
        self._results, policy = 0, _open_policy(settings.policy)
        self._sensors, self._controls = find_sensors(settings.root), list[AppliedControl]()
        first = self._choose(budget)
        self._inputs = first.make_inputs()
        cores = len(os.sched_getaffinity(0))
        self._keeper = BudgetKeeper(budget, [one.p50_us for one in self._ladder], cores)
        self._guardian = self._open_guardian()
        stream = settings.stream or StreamSettings(deadline_s=(budget.latency_ms or DEADLINE_S * 1e3) / 1e3)
        stream = msgspec.structs.replace(stream, begin_thread=self._begin_thread)
        self._pipeline = Pipeline(first, pre, post, self.monitor, stream)
        self._pipeline.on_end = self._end_frame
        handlers = SteeringHandlers(
            source=settings.signals or SystemSignals(settings.root),
            choose=self._decide,
            load=self._load,
            clock=settings.clock,
            period_s=settings.period_s,
        )
        self._steering = Steering(self._pipeline, policy, self.monitor, handlers)

    def __call__(self, frame: Any) -> Any:
        """Return the result of a frame; None if it was left out, which the monitor explains."""
        found: Future[Any] = Future()
        self._pipeline.offer(frame, token=found)
        return found.result()

    def offer(self, frame: Any, offered_s: float | None = None) -> int:
        """Offer a frame to the stream, and return its number; it was taken at `offered_s` on `time.monotonic`."""
        return self._pipeline.offer(frame, offered_s)

    def make_inputs(self) -> dict[str, Any]:
        """Return inputs of zeros for the variants."""
        return self._inputs

    @property
    def variant(self) -> str:
        """Return the name of the variant that runs."""
        return self._pipeline.variant

    def report(self) -> tuple[BudgetPart, ...]:
        """Return each part of the budget: what was measured, whether it is held, and why not."""
        return self._keeper.report()

    def list_controls(self) -> Sequence[AppliedControl]:
        """Return the settings of the system that were asked for, and which hold."""
        return tuple(self._controls)

    def close(self) -> None:
        """Run the frames that wait, free the variants, and restore the system."""
        self._steering.close()
        self._pipeline.close()
        if self._guardian is not None:
            for problem in self._guardian.close():
                self.monitor.note("guardian", f"not restored: {problem}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _end_frame(self, frame: FrameRecord, result: Any) -> None:
        if "post" in frame.stages:
            self._results += 1
            self._keeper.add_latency(frame.stages["post"][1] - frame.offered_s)
            self.on_result(frame.number, result)
        elif frame.outcome == "dropped" and (now := time.monotonic()) > frame.deadline_s:
            self._keeper.add_latency(now - frame.offered_s)  # it would have been even later
        if frame.token is not None:
            frame.token.set_result(result)

    def _decide(self, action: Action) -> Choice:
        """Return the lighter of what the policy and the budget choose."""
        now, energy = time.monotonic(), self._sensors.read().energy_uj
        self._keeper.update(UsageSample(now, time.process_time(), energy, self._results))
        if action.variant is None:
            return Choice(None, 0.0)
        wanted = 0 if action.variant == "full" else 1
        last = len(self._ladder) - 1
        duty = LITE_DUTY if wanted > last else 1.0  # no lighter variant may run: fewer frames do
        position = min(max(wanted, self._keeper.position), last)
        return Choice(self._ladder[position].name, min(action.duty, self._keeper.duty, duty))

    def _load(self, name: str) -> LoadedVariant:
        variant = next(one for one in self._ladder if one.name == name)
        options = {"weights": "mapped"} if self._settings.mapped else {}
        return self._settings.open_variant(self._folder, variant, self._threads, options)

    def _choose(self, budget: Budget) -> LoadedVariant:
        """Return the fullest variant that loads and holds the latency in a trial; it is remembered for this device."""
        settings = self._settings
        self._ladder, self.why = _order_ladder(self._ladder, settings)
        cache = settings.cache or platformdirs.user_cache_path("edgewright", appauthor=False) / "adaptive"
        memory = _ChoiceMemory(cache, self._folder, budget, (self._threads, settings.tier))
        remembered = "" if settings.variant else memory.read()
        if remembered in [one.name for one in self._ladder]:
            try:
                loaded = self._load(remembered)
            except EdgewrightError as failed:
                self.monitor.note("load", f"{remembered} does not load: {failed}")
            else:
                self._drop_until(remembered)
                self.why = "remembered for this device"
                return loaded
        chosen = self._try_variants(budget)
        if not settings.variant:
            memory.write(chosen.name)
        return chosen

    def _try_variants(self, budget: Budget) -> LoadedVariant:
        error: EdgewrightError | None = None
        for number, one in enumerate(self._ladder):
            try:
                loaded = self._load(one.name)
            except EdgewrightError as failed:
                error = failed
                self.monitor.note("load", f"{one.name} does not load: {failed}")
                continue
            limit, is_last = budget.latency_ms, number + 1 == len(self._ladder)
            if limit is None or self._settings.variant or is_last:
                self._drop_until(one.name)
                return loaded
            measured = loaded.measure()
            if measured / 1e3 <= limit:
                self._drop_until(one.name)
                self.why += f"; {measured:.0f} µs in a trial"
                return loaded
            self.monitor.note("trial", f"{one.name} takes {measured / 1e3:.1f} ms, the budget is {limit:g} ms")
            loaded.close()
        raise error or UsageError("the bundle has no variant", "all were left out", "edgewright bundle")

    def _drop_until(self, name: str) -> None:
        names = [one.name for one in self._ladder]
        self._ladder = self._ladder[names.index(name) :]

    def _begin_thread(self, stage: str) -> None:
        given = self._settings.stream
        if given is not None and given.begin_thread is not None:
            given.begin_thread(stage)
        controls = self._settings.controls if stage == "infer" else Controls()
        if self._settings.spread and not controls.cores and read_cpu_facts(self._settings.root).get("clusters"):
            controls = msgspec.structs.replace(controls, cores="big" if stage == "infer" else "little")
        applied = SystemControls(controls, self._guardian, self._settings.root).applied
        self._controls += applied
        for one in applied:
            if not one.applied:
                self.monitor.note("control", f"{stage}: {one.name}={one.wanted} is not applied: {one.why}")

    def _open_guardian(self) -> Guardian | None:
        wanted = self._settings.controls
        if not any((wanted.governor, wanted.floor_khz, wanted.memory_bytes, wanted.cpu_share)):
            return None
        try:
            return Guardian()
        except (OSError, AttributeError) as error:
            self.monitor.note("guardian", str(error))
            return None


class _ChoiceMemory:
    """The chosen variant of a bundle on this device, in a file."""

    def __init__(self, cache: Path, bundle: Path, budget: Budget, chosen_for: tuple[int, str]) -> None:
        facts = read_cpu_facts()
        key = (
            _hash_bundle(bundle),
            facts.get("model"),
            facts.get("logical_cores"),
            chosen_for,
            msgspec.to_builtins(budget),
        )
        self._path = cache / f"choice-{sha256(msgspec.json.encode(key)).hexdigest()[:20]}.json"

    def read(self) -> str:
        try:
            return str(msgspec.json.decode(self._path.read_bytes(), type=dict[str, str])["variant"])
        except (OSError, msgspec.DecodeError, KeyError):
            return ""

    def write(self, variant: str) -> None:
        with suppress(OSError, EdgewrightError):  # it is tried again at the next start
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self._path, msgspec.json.encode({"variant": variant}))


def _hash_bundle(folder: Path) -> str:
    """Return the hash of a bundle's description, which has the hashes of its files."""
    return sha256((folder / BUNDLE_FILE).read_bytes()).hexdigest()


def _list_allowed(bundle: Bundle, budget: Budget, settings: SessionSettings) -> Sequence[Variant]:
    """Return the variants that the smallest quality allows, the fullest first."""
    least = budget.min_quality
    found = [one for one in bundle.variants if least is None or (one.metric is not None and one.metric >= least)]
    names = [one.name for one in found]
    if not found:
        metrics = ", ".join(f"{one.name} {one.metric}" for one in bundle.variants)
        raise UsageError(f"no variant has a quality of {least:g}", metrics, "a smaller min_quality, or bundle --data")
    if settings.variant and settings.variant not in names:
        what = f"the bundle has no variant {settings.variant} that may run"
        raise UsageError(what, f"it has {', '.join(names)}", "choose one of them")
    return found


def _order_ladder(ladder: Sequence[Variant], settings: SessionSettings) -> tuple[Sequence[Variant], str]:
    """Return the variants from the fullest that this device shall run, and why."""
    names = [one.name for one in ladder]
    if settings.variant:
        return ladder[names.index(settings.variant) :], "chosen by the caller"
    limits = (read_meminfo(settings.root).get("MemTotal"), read_cgroup_limits(settings.root).get("memory_bytes"))
    memory = min((int(one) for one in limits if one is not None), default=None)
    chosen = choose_variant(ladder, memory, settings.tier)
    why = "the fullest" if chosen is ladder[0] else "the fullest that fits the device"
    return ladder[names.index(chosen.name) :], why


def _open_policy(policy: str | Policy | ExecutionPolicy) -> ExecutionPolicy:
    if isinstance(policy, Policy):
        return StateMachine(policy)
    if not isinstance(policy, str):
        return policy
    if policy not in BUILT_IN:
        raise ConfigError(f"there is no policy {policy}", f"built in: {', '.join(BUILT_IN)}", "policy='governor'")
    return StateMachine(BUILT_IN[policy])


def _ignore(number: int, result: Any) -> None:
    """Do nothing with a result."""
