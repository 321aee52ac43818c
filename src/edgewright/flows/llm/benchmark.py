"""`llm benchmark`: speed and memory of language models in fresh, interleaved processes."""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

import msgspec
import psutil
from msgspec import Struct
from msgspec.structs import asdict, replace

from edgewright.bench.session import mirror_order
from edgewright.errors import EdgewrightError, LimitReached, ModelRejected, RuntimeMissing, UsageError
from edgewright.flows.llm.candidates import LanguageCandidate, RunningEngine, list_candidates, open_engine
from edgewright.llm.measure.memory import ENGINE_BYTES, KV_BITS, estimate_activations, estimate_cache
from edgewright.llm.measure.speed import (
    GenerationTimes,
    ProcessTimes,
    SpeedVerdict,
    compare_speeds,
    summarize_speed,
)
from edgewright.schema.units import show_bytes, show_us
from edgewright.system.files import write_atomically

EVIDENCE_FILE = "llm-benchmark.json"
Progress = Callable[[str], object]


class BenchmarkRequest(Struct, frozen=True, kw_only=True):
    """What is measured; `prompts` are lengths in tokens, `repeats` generations per process and prompt."""

    artifacts: tuple[str, ...]
    prompts: tuple[int, ...] = (64,)
    generate: int = 64
    kv_precision: str = "fp16"
    processes: int = 8
    repeats: int = 3
    threads: int = 1


class SpeedRow(Struct, frozen=True, kw_only=True):
    """One artifact with one prompt length; medians of the processes.

    Attributes:
        engine_kv: the engine's own format, float32 if fp16 was asked for and it has no other.
        ttft_us: from the prompt to its first token.
        prefill_tokens_s: tokens of the prompt over `ttft_us`.
        decode_tokens_s: of the tokens after the first one.
        cold_start_us: start of the process, load of the model, and the first token.
        peak_bytes: peak resident memory of the process.
        low, high: bounds of each figure by its name, with the probability `confidence`.
        state: measured, missing (the engine is not set up), unsupported, limit (it would not fit into memory), error.
    """

    runtime: str
    precision: str
    kv: str
    path: str
    prompt: int
    state: str
    reason: str | None = None
    engine_kv: str | None = None
    ttft_us: float | None = None
    prefill_tokens_s: float | None = None
    decode_tokens_s: float | None = None
    cold_start_us: float | None = None
    peak_bytes: int | None = None
    low: dict[str, float] = {}
    high: dict[str, float] = {}
    confidence: float | None = None
    processes: int = 0


class LlmBenchmarkReport(Struct, frozen=True, kw_only=True):
    """The rows and verdicts (edgewright.llm-benchmark/1).

    Attributes:
        predicted_bytes: memory that was predicted for each artifact at the longest prompt, by its name.
    """

    schema: str = "edgewright.llm-benchmark/1"
    generate: int
    threads: int
    rows: tuple[SpeedRow, ...]
    verdicts: tuple[SpeedVerdict, ...]
    predicted_bytes: dict[str, int]
    answer: str


class _Measured(Struct):
    """An artifact with the processes that were measured, or the reason why none is."""

    candidate: LanguageCandidate
    processes: list[ProcessTimes]
    state: str = "measured"
    reason: str = ""

    def fail(self, state: str, reason: str) -> None:
        self.state, self.reason = state, reason


def benchmark_artifacts(
    request: BenchmarkRequest, progress: Progress
) -> tuple[LlmBenchmarkReport, EdgewrightError | None]:
    """Measure all artifacts in rounds of one fresh process each.

    Returns:
        The report, and RuntimeMissing if no engine is set up, or ModelRejected if none could be measured.

    Raises UsageError for a request that cannot be met.
    """
    _check(request)
    measured = {one.name: _Measured(candidate=one, processes=[]) for one in list_candidates(request.artifacts)}
    needed = {name: _predict(one.candidate, request) for name, one in measured.items()}
    for name, one in measured.items():
        _examine(one, request, needed[name])
    for number in range(request.processes):
        names = [name for name, one in measured.items() if one.state == "measured"]
        for position in mirror_order(range(len(names)), number):
            one = measured[names[position]]
            progress(f"{names[position]}: process {number + 1} of {request.processes}")
            _measure_process(one, request)
    rows = tuple(row for one in measured.values() for row in _list_rows(one, request))
    good = {name: one.processes for name, one in measured.items() if one.state == "measured"}
    report = LlmBenchmarkReport(
        generate=request.generate,
        threads=request.threads,
        rows=rows,
        verdicts=compare_speeds(good, request.prompts),
        predicted_bytes=needed,
        answer=_make_answer(rows),
    )
    _write_evidence(report, [one.candidate for one in measured.values() if one.state == "measured"])
    return report, _find_error(list(measured.values()))


def _check(request: BenchmarkRequest) -> None:
    if request.kv_precision not in KV_BITS:
        what = f"--kv-precision {request.kv_precision} is not possible"
        raise UsageError(what, f"known: {', '.join(KV_BITS)}", "--kv-precision fp16")
    for name in ("prompt", "generate", "processes", "repeats", "threads"):
        value = min(request.prompts, default=0) if name == "prompt" else getattr(request, name)
        if value < 1:
            raise UsageError(f"--{name} {value} is not possible", "it must be above 0", f"--{name} 5")


def _predict(candidate: LanguageCandidate, request: BenchmarkRequest) -> int:
    """Return the memory that the longest generation needs."""
    context = max(request.prompts) + request.generate
    kv = candidate.find_kv(request.kv_precision) or request.kv_precision
    cache = estimate_cache(candidate.config, kv, context, 1)
    return candidate.record.bytes + cache + estimate_activations(candidate.config, context, 1) + ENGINE_BYTES


def _examine(one: _Measured, request: BenchmarkRequest, needed: int) -> None:
    """Find out what cannot be measured before any process is started."""
    candidate, context = one.candidate, max(request.prompts) + request.generate
    free = psutil.virtual_memory().available
    if candidate.missing:
        one.fail("missing", candidate.missing)
    elif not candidate.find_kv(request.kv_precision):
        one.fail("unsupported", f"{candidate.runtime} has the formats {', '.join(candidate.kv_formats)}")
    elif context > candidate.config.context:
        one.fail("unsupported", f"{context} tokens are more than the model's context of {candidate.config.context}")
    elif needed > free:
        one.fail("limit", f"{show_bytes(needed)} would be needed, and {show_bytes(free)} are free")


def _measure_process(one: _Measured, request: BenchmarkRequest) -> None:
    """Measure one fresh process; a failure becomes the state of the artifact."""
    try:
        kv = one.candidate.find_kv(request.kv_precision)
        with open_engine(one.candidate, kv, request.threads) as session:
            generations = {
                prompt: tuple(_repeat(session, one.candidate.config.vocabulary, prompt, request))
                for prompt in request.prompts
            }
            one.processes.append(
                ProcessTimes(
                    start_us=session.start_us,
                    load_us=session.load_us,
                    generations=generations,
                    peak_bytes=session.memory().peak,
                )
            )
    except RuntimeMissing as error:
        one.fail("missing", error.try_this)
    except LimitReached as error:
        one.fail("limit", str(error))
    except EdgewrightError as error:
        one.fail("error", str(error))


def _repeat(
    session: RunningEngine, vocabulary: int, prompt: int, request: BenchmarkRequest
) -> Iterator[GenerationTimes]:
    """Yield the times of the generations; the prompts differ, so that an engine cannot keep one."""
    for number in range(request.repeats):
        tokens = _make_prompt(vocabulary, prompt, number)
        yield session.time_generation(tokens, request.generate)


def _make_prompt(vocabulary: int, length: int, seed: int) -> list[int]:
    """Return random tokens of a vocabulary, without its first 3, which are special in most."""
    generator = random.Random(f"{length} {seed}")  # noqa: S311 - not for secrets
    return [generator.randrange(min(3, vocabulary - 1), vocabulary) for _ in range(length)]


def _list_rows(one: _Measured, request: BenchmarkRequest) -> Iterator[SpeedRow]:
    candidate = one.candidate
    for prompt in request.prompts:
        row = SpeedRow(
            runtime=candidate.runtime,
            precision=candidate.precision,
            kv=request.kv_precision,
            engine_kv=candidate.find_kv(request.kv_precision) or None,
            path=str(candidate.path),
            prompt=prompt,
            state=one.state,
            reason=one.reason or None,
        )
        yield replace(row, **asdict(summarize_speed(one.processes, prompt))) if one.state == "measured" else row


def _write_evidence(report: LlmBenchmarkReport, measured: Sequence[LanguageCandidate]) -> None:
    """Keep the report beside the artifacts, for `llm fit`; a folder that cannot be written is left alone."""
    for folder in dict.fromkeys(one.path.parent for one in measured):
        with suppress(OSError):
            write_atomically(folder / EVIDENCE_FILE, msgspec.json.encode(report), follow=False)


def _make_answer(rows: Sequence[SpeedRow]) -> str:
    timed = [one for one in rows if one.decode_tokens_s is not None]
    if not timed:
        return "No artifact could be measured."
    best = max(timed, key=lambda one: one.decode_tokens_s or 0.0)
    return (
        f"{best.runtime} {best.precision} generates the most: {best.decode_tokens_s:.0f} tokens/s "
        f"after a prompt of {best.prompt} tokens, its first token after {show_us(best.ttft_us)}."
    )


def _find_error(measured: Sequence[_Measured]) -> EdgewrightError | None:
    if any(one.state == "measured" for one in measured):
        return None
    first = next((one for one in measured if one.state != "missing"), None)
    if first is None:
        return RuntimeMissing("no engine of these artifacts is set up", "", measured[0].reason)
    title = f"no artifact could be measured; {first.candidate.name}: {first.state}"
    return ModelRejected(title, first.reason, "use shorter prompts, or a smaller artifact")
