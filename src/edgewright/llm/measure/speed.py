"""Speed of language models: times of fresh processes become figures with intervals, and verdicts."""

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from statistics import median

from msgspec import Struct

from edgewright.bench.statistics import Interval, median_interval
from edgewright.bench.verdict import compare_paired
from edgewright.schema.run import Comparison

THRESHOLD = 0.03


class GenerationTimes(Struct, frozen=True, kw_only=True):
    """One generation.

    Attributes:
        first_us: from the prompt to its first token.
        token_us: from each token to the next one.
    """

    first_us: float
    token_us: tuple[float, ...]


class ProcessTimes(Struct, frozen=True, kw_only=True):
    """One process: its generations by prompt length, and what it took to be there.

    Attributes:
        start_us: from the start of the process to its greeting.
        load_us: of the model.
        peak_bytes: peak resident memory, None if the system does not report it.
    """

    start_us: float
    load_us: float
    generations: dict[int, tuple[GenerationTimes, ...]]
    peak_bytes: int | None


class SpeedFigures(Struct, frozen=True, kw_only=True):
    """Figures of one artifact and prompt length, each the median of the processes.

    Attributes:
        low, high: bounds of each figure by its name, with the probability `confidence`; empty with one process.
        cold_start_us: start of the process, load of the model and the first token of a prompt.
    """

    ttft_us: float
    prefill_tokens_s: float
    decode_tokens_s: float | None
    cold_start_us: float
    peak_bytes: int | None
    low: dict[str, float]
    high: dict[str, float]
    confidence: float
    processes: int


def summarize_speed(processes: Sequence[ProcessTimes], prompt: int) -> SpeedFigures:
    """Return the figures for prompts of this many tokens."""
    ttft = median_interval(_list_ttft(processes, prompt))
    found = {"ttft_us": ttft, "prefill_tokens_s": _invert(ttft, prompt * 1e6)}
    decode = _list_decode(processes, prompt)
    if decode:
        found["decode_tokens_s"] = _invert(median_interval(decode), 1e6)
    cold = [one.start_us + one.load_us + one.generations[prompt][0].first_us for one in processes]
    found["cold_start_us"] = median_interval(cold)
    if peaks := [one.peak_bytes for one in processes if one.peak_bytes is not None]:
        found["peak_bytes"] = median_interval(peaks)
    peak = found.get("peak_bytes")
    return SpeedFigures(
        ttft_us=ttft.value,
        prefill_tokens_s=found["prefill_tokens_s"].value,
        decode_tokens_s=found["decode_tokens_s"].value if decode else None,
        cold_start_us=found["cold_start_us"].value,
        peak_bytes=int(peak.value) if peak else None,
        low={name: one.low for name, one in found.items() if one.low is not None},
        high={name: one.high for name, one in found.items() if one.high is not None},
        confidence=ttft.confidence,
        processes=len(processes),
    )


def _invert(interval: Interval, numerator: float) -> Interval:
    """Return the interval of `numerator / x`."""
    low = None if interval.high is None else numerator / interval.high
    high = None if interval.low is None else numerator / interval.low
    return Interval(value=numerator / interval.value, low=low, high=high, confidence=interval.confidence)


def _list_ttft(processes: Sequence[ProcessTimes], prompt: int) -> list[float]:
    return [median(times.first_us for times in one.generations[prompt]) for one in processes]


def _list_decode(processes: Sequence[ProcessTimes], prompt: int) -> list[float]:
    """Return the microseconds per token of each process; empty if a single token was generated."""
    values = [[sum(times.token_us) / len(times.token_us) for times in one.generations[prompt] if times.token_us]
              for one in processes]  # fmt: skip
    return [median(one) for one in values if one]


class SpeedVerdict(Struct, frozen=True, kw_only=True):
    """Comparison of two artifacts: time of `b` over time of `a`, from interleaved processes.

    Attributes:
        metric: `ttft` (time to first token) or `decode` (time per token).
    """

    metric: str
    prompt: int
    a: str
    b: str
    ratio: float
    low: float | None
    high: float | None
    confidence: float
    verdict: str


def compare_speeds(measured: Mapping[str, Sequence[ProcessTimes]], prompts: Sequence[int]) -> tuple[SpeedVerdict, ...]:
    """Return the verdicts of all pairs; the processes of all artifacts are those of the same rounds, in order."""
    readers: dict[str, Callable[[Sequence[ProcessTimes], int], list[float]]] = {
        "ttft": _list_ttft,
        "decode": _list_decode,
    }
    return tuple(
        _describe(name, prompt, compare_paired(a, b, _pack(read(measured[a], prompt)), _pack(read(measured[b], prompt)),
                                               THRESHOLD))
        for prompt in prompts
        for name, read in readers.items()
        for a, b in combinations(measured, 2)
    )  # fmt: skip


def _pack(values: Sequence[float]) -> list[list[float]]:
    return [[value] for value in values]


def _describe(metric: str, prompt: int, found: Comparison) -> SpeedVerdict:
    return SpeedVerdict(
        metric=metric,
        prompt=prompt,
        a=found.a,
        b=found.b,
        ratio=found.ratio,
        low=found.low,
        high=found.high,
        confidence=found.confidence,
        verdict=found.verdict,
    )
