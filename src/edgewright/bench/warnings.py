"""Warnings about the certainty of a result, each with advice that fits the user's options.

Every rule is one function that maps the context to a text or None; `RULES` is the complete set.
"""

from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import NamedTuple

from msgspec import Struct

from edgewright.bench.session import ProcessSamples
from edgewright.bench.summary import compute_process_medians
from edgewright.devices.system_state import compute_steal_share
from edgewright.schema.run import LayerReport, Metric, RunWarning

MAX_NOISE = 0.05  # half the interval of p50 over p50; pyperf warns from a relative deviation of 10 % of single samples
MAX_DRIFT = 0.05
MIN_SAMPLES_FOR_P99 = 100
MIN_PROCESSES = 6  # below it no rank interval reaches 95 %
COARSE_CLOCK = 0.01
COSTLY_HARNESS = 0.05
BUSY_LOAD = 0.5  # other runnable processes per core
BUSY_PRESSURE = 10.0  # percent of the last 10 s in which a task waited for a processor
BUSY_STEAL = 0.02
LAYER_GAP = 0.15


class TimingOptions(NamedTuple):
    """Options of the benchmark on which advice depends: `processes` is their requested number."""

    threads: int
    processes: int
    warmup_seconds: float
    is_bound: bool


class WarningContext(Struct, frozen=True, kw_only=True):
    """The input of the rules.

    `before` and `after` are system states of the device; `failure` is the error of the layer pass.
    """

    options: TimingOptions
    processes: Sequence[ProcessSamples]
    metrics: Mapping[str, Metric]
    before: Mapping[str, float]
    after: Mapping[str, float]
    cores: int
    report: LayerReport | None = None
    failure: str = ""

    def value(self, name: str) -> float | None:
        metric = self.metrics.get(name)
        return metric.value if metric else None


def find_warnings(context: WarningContext) -> tuple[RunWarning, ...]:
    """Return the warnings that apply, in the order of `RULES`."""
    found = ((code, rule(context)) for code, rule in RULES.items())
    return tuple(RunWarning(code=code, text=text) for code, text in found if text)


def _check_backend_absent(context: WarningContext) -> str | None:
    notes = dict.fromkeys(note for process in context.processes for note in process.notes)
    return "; ".join(notes) or None


def _check_fallback(context: WarningContext) -> str | None:
    if context.report is None or not (fallen := context.report.fallbacks()):
        return None
    operators = ", ".join(sorted({layer.op for layer in fallen}))
    return (
        f"{len(fallen)} of {len(context.report.layers)} operators ({operators}) did not run in {context.report.asked} "
        f"but in {', '.join(sorted({layer.backend for layer in fallen}))}: {context.report.partitions} partitions"
    )


def _check_noisy_machine(context: WarningContext) -> str | None:
    p50 = context.metrics.get("latency.p50")
    if p50 is None or not p50.value or p50.low is None or p50.high is None:
        return None
    half = (p50.high - p50.low) / 2 / p50.value
    if half <= MAX_NOISE:
        return None
    advice = _suggest_noise_remedy(context.options)
    return f"p50 is known only to ±{half:.0%} because the processes differ; {advice}"


def _suggest_noise_remedy(options: TimingOptions) -> str:
    """Return further advice against noise."""
    if options.processes < 20:
        return f"try --processes {2 * options.processes}, or a quieter machine"
    return "use a quieter machine" if options.is_bound else "close other programs, or bind the worker with --affinity"


def _check_drift(context: WarningContext) -> str | None:
    """Compare the first third of the processes with the last third."""
    medians = compute_process_medians(context.processes)
    third = len(medians) // 3
    if third < 2:
        return None
    first, last = medians[:third], medians[-third:]
    change = median(last) / median(first) - 1
    apart = max(first) < min(last) or min(first) > max(last)
    if abs(change) <= MAX_DRIFT or not apart:
        return None
    word = "slower" if change > 0 else "faster"
    return f"the last processes were {abs(change):.0%} {word} than the first: let the machine cool down, and repeat"


def _check_throttling(context: WarningContext) -> str | None:
    """Compare the last third of each process's samples with its first third, and read the sensors."""
    changes = [_compute_change_within(process.wall_us) for process in context.processes if len(process.wall_us) >= 9]
    if not changes or median(changes) <= MAX_DRIFT:
        return None
    ends = [after for process in context.processes for _, after, _, _ in process.readings]
    hot = [end.temperature_c for end in ends if end.temperature_c is not None]
    evidence = f" while the temperature rose to {max(hot):.0f} °C" if hot and max(hot) > hot[0] + 1 else ""
    return (
        f"within a process the last inferences took {median(changes):.0%} longer than the first{evidence}: "
        "the device slows down under load; let it cool, or measure longer to get the sustained speed"
    )


def _compute_change_within(samples: Sequence[float]) -> float:
    third = len(samples) // 3
    return median(samples[-third:]) / median(samples[:third]) - 1


def _check_not_steady(context: WarningContext) -> str | None:
    late = sum(not process.steady for process in context.processes)
    if not late:
        return None
    seconds, whole = context.options.warmup_seconds, len(context.processes)
    return (
        f"{late} of {whole} processes were still warming up after {seconds:g} s: try --warmup-seconds {4 * seconds:g}"
    )


def _check_too_few_samples(context: WarningContext) -> str | None:
    p50 = context.metrics.get("latency.p50")
    if p50 is None or p50.n >= MIN_SAMPLES_FOR_P99:
        return None
    needed = -(-MIN_SAMPLES_FOR_P99 // max(1, len(context.processes)))
    return f"{p50.n} samples are too few for p99: try --runs {needed} or more"


def _check_too_few_processes(context: WarningContext) -> str | None:
    if len(context.processes) >= MIN_PROCESSES:
        return None
    return (
        f"an interval from fewer than {MIN_PROCESSES} processes (here {len(context.processes)}) does not reach 95 %, "
        "so no verdict is given: try --processes 15"
    )


def _check_too_many_threads(context: WarningContext) -> str | None:
    if context.options.threads <= context.cores:
        return None
    return (
        f"{context.options.threads} threads share {context.cores} processors, and wait for each other: "
        f"try --threads {context.cores}"
    )


def _check_timer_resolution(context: WarningContext) -> str | None:
    p50, step, own = context.value("latency.p50"), context.value("clock.resolution"), context.value("overhead.wall")
    if not p50 or step is None or own is None:
        return None
    error = context.value("clock.error") or step / 1e3  # inferences that are timed in groups share the steps
    if error > COARSE_CLOCK * p50:
        return f"the clock moves in steps of {step:.0f} ns, over 1 % of one inference: measure a larger batch"
    if own / 1e3 > COSTLY_HARNESS * p50:
        return f"the harness costs {own:.0f} ns per sample, over 5 % of an inference: use a larger batch"
    return None


def _check_background_load(context: WarningContext) -> str | None:
    load, pressure = context.before.get("load1", 0.0), context.before.get("psi_cpu_some_avg10", 0.0)
    steal = compute_steal_share(context.before, context.after) or 0.0
    if steal > BUSY_STEAL:
        return f"the hypervisor took {steal:.0%} of the processor time: compare only within one session"
    if load > BUSY_LOAD * context.cores or pressure > BUSY_PRESSURE:
        return (
            f"the machine was busy before the first sample (load {load:.1f} on {context.cores} processors, "
            f"pressure {pressure:.0f} %): wait until it is idle"
        )
    return None


def _check_swap(context: WarningContext) -> str | None:
    grown = context.after.get("swap_used_bytes", 0.0) - context.before.get("swap_used_bytes", 0.0)
    if grown <= 0:
        return None
    return f"{grown / 1e6:.0f} MB were swapped out during the measurement: free memory, or use a smaller model"


def _check_layer_sum(context: WarningContext) -> str | None:
    whole, total = context.value("layers.whole"), context.value("layers.sum")
    if not whole or total is None or abs(total / whole - 1) <= LAYER_GAP:
        return None
    via = context.report.via if context.report else ""
    return f"the layer times add up to {total / whole:.0%} of an inference ({via}): use their shares, not their times"


def _check_profiling_cost(context: WarningContext) -> str | None:
    """Compare a profiled inference with an unprofiled one."""
    whole, p50 = context.value("layers.whole"), context.value("latency.p50")
    if not whole or not p50 or whole <= 1.25 * p50:
        return None
    return f"an inference took {whole / p50:.2f} × as long with profiling: use the layers' shares, not their times"


def _check_layers_cut_out(context: WarningContext) -> str | None:
    if context.report is None or not context.report.reason:
        return None
    return (
        f"the layers were timed with a fallback method ({context.report.via}): {context.report.reason}; the times "
        "show which operators are expensive, not what each costs within the model"
    )


def _check_layers_missing(context: WarningContext) -> str | None:
    return f"no layer times: {context.failure}" if context.failure else None


RULES: dict[str, Callable[[WarningContext], str | None]] = {
    "backend-absent": _check_backend_absent,
    "fallback": _check_fallback,
    "noisy-machine": _check_noisy_machine,
    "drift": _check_drift,
    "throttling": _check_throttling,
    "not-steady": _check_not_steady,
    "too-few-samples": _check_too_few_samples,
    "too-few-processes": _check_too_few_processes,
    "too-many-threads": _check_too_many_threads,
    "timer-resolution": _check_timer_resolution,
    "background-load": _check_background_load,
    "swap": _check_swap,
    "layer-sum": _check_layer_sum,
    "profiling-cost": _check_profiling_cost,
    "layers-cut-out": _check_layers_cut_out,
    "layers-missing": _check_layers_missing,
}
