"""What makes a result less certain: a closed set, each with advice that fits what the user did.

Every rule is one function from the case to a text, or None; `RULES` is the whole set.
"""

from collections.abc import Callable, Mapping, Sequence
from statistics import median

from msgspec import Struct

from edgewright.bench.session import Tape
from edgewright.bench.summary import process_medians
from edgewright.devices.moment import steal_share
from edgewright.facts.plan import BenchmarkPlan
from edgewright.facts.run import LayerReport, Metric, Warn

NOISY = 0.05  # half the interval of p50 over p50; pyperf warns from a relative deviation of 10 % of single samples
DRIFT = 0.05
LEAST_FOR_P99 = 100
LEAST_PROCESSES = 6  # below it no rank interval reaches 95 %
COARSE_CLOCK = 0.01
COSTLY_HARNESS = 0.05
BUSY_LOAD = 0.5  # runnable processes per core besides our own
BUSY_PRESSURE = 10.0  # percent of the last 10 s in which something waited for a processor
BUSY_STEAL = 0.02
LAYER_GAP = 0.15


class Case(Struct, frozen=True, kw_only=True):
    """All that the rules look at. `before` and `after` are moments of the device; `failure` is a lost layer pass."""

    plan: BenchmarkPlan
    tapes: Sequence[Tape]
    metrics: Mapping[str, Metric]
    before: Mapping[str, float]
    after: Mapping[str, float]
    cores: int
    report: LayerReport | None = None
    failure: str = ""

    def value(self, name: str) -> float | None:
        metric = self.metrics.get(name)
        return metric.value if metric else None


def find_warnings(case: Case) -> tuple[Warn, ...]:
    """The warnings that hold for this case, in the order of `RULES`."""
    found = ((code, rule(case)) for code, rule in RULES.items())
    return tuple(Warn(code=code, text=text) for code, text in found if text)


def backend_absent(case: Case) -> str | None:
    notes = dict.fromkeys(note for tape in case.tapes for note in tape.notes)
    return "; ".join(notes) or None


def fallback(case: Case) -> str | None:
    if case.report is None or not (fallen := case.report.fallbacks()):
        return None
    operators = ", ".join(sorted({layer.op for layer in fallen}))
    return (
        f"{len(fallen)} of {len(case.report.layers)} operators ({operators}) did not run in {case.report.asked} but in "
        f"{', '.join(sorted({layer.backend for layer in fallen}))}: {case.report.partitions} partitions"
    )


def noisy_machine(case: Case) -> str | None:
    p50 = case.metrics.get("latency.p50")
    if p50 is None or not p50.value or p50.low is None or p50.high is None:
        return None
    half = (p50.high - p50.low) / 2 / p50.value
    if half <= NOISY:
        return None
    advice = quieter(case.plan)
    return f"p50 is known to ±{half:.0%} only: processes differ from each other; {advice}"


def quieter(plan: BenchmarkPlan) -> str:
    """What else the user can do against noise."""
    if plan.processes < 20:
        return f"try --processes {2 * plan.processes}, or a quieter machine"
    return "close other programs, or bind the worker with --affinity" if not plan.affinity else "use a quieter machine"


def drift(case: Case) -> str | None:
    """The first third of the processes against the last third."""
    medians = process_medians(case.tapes)
    third = len(medians) // 3
    if third < 2:
        return None
    first, last = medians[:third], medians[-third:]
    change = median(last) / median(first) - 1
    apart = max(first) < min(last) or min(first) > max(last)
    if abs(change) <= DRIFT or not apart:
        return None
    word = "slower" if change > 0 else "faster"
    return f"the last processes were {abs(change):.0%} {word} than the first: let the machine come to rest, and repeat"


def throttling(case: Case) -> str | None:
    """Within the processes: the last third of the samples against the first third, and what the sensors say."""
    changes = [within(tape.wall_us) for tape in case.tapes if len(tape.wall_us) >= 9]
    if not changes or median(changes) <= DRIFT:
        return None
    ends = [after for tape in case.tapes for _, after, _, _ in tape.readings]
    hot = [end.temperature_c for end in ends if end.temperature_c is not None]
    evidence = f" while the temperature rose to {max(hot):.0f} °C" if hot and max(hot) > hot[0] + 1 else ""
    return (
        f"within a process the last inferences took {median(changes):.0%} longer than the first{evidence}: "
        "the device slows down under load; let it cool, or measure longer for the sustained speed"
    )


def within(samples: Sequence[float]) -> float:
    third = len(samples) // 3
    return median(samples[-third:]) / median(samples[:third]) - 1


def not_steady(case: Case) -> str | None:
    late = sum(not tape.steady for tape in case.tapes)
    if not late:
        return None
    longer = 4 * case.plan.warmup_seconds
    return (
        f"{late} of {len(case.tapes)} processes were still warming up after {case.plan.warmup_seconds:g} s: "
        f"try --warmup-seconds {longer:g}"
    )


def too_few_samples(case: Case) -> str | None:
    p50 = case.metrics.get("latency.p50")
    if p50 is None or p50.n >= LEAST_FOR_P99:
        return None
    wanted = -(-LEAST_FOR_P99 // max(1, len(case.tapes)))
    return f"{p50.n} samples do not tell p99: try --runs {wanted} or more"


def too_few_processes(case: Case) -> str | None:
    if len(case.tapes) >= LEAST_PROCESSES:
        return None
    return (
        f"an interval from fewer than {LEAST_PROCESSES} processes (here {len(case.tapes)}) does not reach 95 %, "
        "so there is no verdict: try --processes 15"
    )


def timer_resolution(case: Case) -> str | None:
    p50, step, own = case.value("latency.p50"), case.value("clock.resolution"), case.value("overhead.wall")
    if not p50 or step is None or own is None:
        return None
    if step / 1e3 > COARSE_CLOCK * p50:
        return f"the clock moves in steps of {step:.0f} ns, over 1 % of one inference: measure a larger batch"
    if own / 1e3 > COSTLY_HARNESS * p50:
        return (
            f"the harness costs {own:.0f} ns a sample, over 5 % of an inference (it is subtracted): use a larger batch"
        )
    return None


def background_load(case: Case) -> str | None:
    load, pressure = case.before.get("load1", 0.0), case.before.get("psi_cpu_some_avg10", 0.0)
    steal = steal_share(case.before, case.after) or 0.0
    if steal > BUSY_STEAL:
        return f"the hypervisor took {steal:.0%} of the processor time away: compare within one session only"
    if load > BUSY_LOAD * case.cores or pressure > BUSY_PRESSURE:
        return (
            f"the machine was busy before the first sample (load {load:.1f} on {case.cores} processors, "
            f"pressure {pressure:.0f} %): wait until it is idle"
        )
    return None


def swap(case: Case) -> str | None:
    grown = case.after.get("swap_used_bytes", 0.0) - case.before.get("swap_used_bytes", 0.0)
    if grown <= 0:
        return None
    return f"{grown / 1e6:.0f} MB went to swap during the measurement: free memory, or use a smaller model"


def layer_sum(case: Case) -> str | None:
    whole, total = case.value("layers.whole"), case.value("layers.sum")
    if not whole or total is None or abs(total / whole - 1) <= LAYER_GAP:
        return None
    via = case.report.via if case.report else ""
    return (
        f"the layers sum up to {total / whole:.0%} of a profiled inference ({via}): read their shares, not their times"
    )


def profiling_cost(case: Case) -> str | None:
    """A profiled inference against an unprofiled one."""
    whole, p50 = case.value("layers.whole"), case.value("latency.p50")
    if not whole or not p50 or whole <= 1.25 * p50:
        return None
    return f"profiling made an inference {whole / p50:.2f} × as long: read the layers' shares, not their times"


def layers_cut_out(case: Case) -> str | None:
    if case.report is None or not case.report.reason:
        return None
    return (
        f"the layers were timed another way ({case.report.via}), since {case.report.reason}: they tell which "
        "operators are heavy, not what each costs in place"
    )


def layers_missing(case: Case) -> str | None:
    return f"no layer times: {case.failure}" if case.failure else None


RULES: dict[str, Callable[[Case], str | None]] = {
    "backend-absent": backend_absent,
    "fallback": fallback,
    "noisy-machine": noisy_machine,
    "drift": drift,
    "throttling": throttling,
    "not-steady": not_steady,
    "too-few-samples": too_few_samples,
    "too-few-processes": too_few_processes,
    "timer-resolution": timer_resolution,
    "background-load": background_load,
    "swap": swap,
    "layer-sum": layer_sum,
    "profiling-cost": profiling_cost,
    "layers-cut-out": layers_cut_out,
    "layers-missing": layers_missing,
}
