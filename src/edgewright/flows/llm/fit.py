"""`llm fit`: with which formats a language model fits into a device's memory."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from msgspec import Struct

from edgewright.errors import UsageError
from edgewright.flows.llm.benchmark import EVIDENCE_FILE, LlmBenchmarkReport
from edgewright.flows.llm.candidates import LanguageCandidate, find_candidates, read_config
from edgewright.limits import parse_size
from edgewright.llm.measure.memory import (
    ENGINE_BYTES,
    KV_BITS,
    estimate_activations,
    estimate_cache,
    estimate_weights,
    find_longest_context,
)
from edgewright.llm.model import DecoderConfig
from edgewright.schema.units import show_bytes

PRECISIONS = ("fp16", "w8", "w4")
KV_FORMATS = tuple(one for one in KV_BITS if one != "fp32")


class FitRequest(Struct, frozen=True, kw_only=True):
    """Models, and the memory that a device has for one of them, as text with a unit."""

    models: tuple[str, ...]
    memory: str
    context: int = 2048
    batch: int = 1


class FitRow(Struct, frozen=True, kw_only=True):
    """One model with one pair of formats.

    Attributes:
        fits: whether `bytes` are at most the memory; a context beyond the model's own is in the notes.
        bytes: weights, keys and values, and `runtime_bytes` (activations and the engine's process).
        longest_context: longest sequence that fits, at most the model's.
        evidence: `measured` if the runtime's part comes from `llm benchmark`, and the weights from the files;
            `files` if only the weights do; else `estimated`.
    """

    model: str
    precision: str
    kv: str
    bytes: int
    fits: bool
    weights_bytes: int
    kv_bytes: int
    runtime_bytes: int
    longest_context: int
    evidence: str


class LlmFitReport(Struct, frozen=True, kw_only=True):
    """What fits (edgewright.llm-fit/1)."""

    schema: str = "edgewright.llm-fit/1"
    memory_bytes: int
    context: int
    batch: int
    fits: tuple[FitRow, ...]
    answer: str
    notes: tuple[str, ...]


class _Sizes(Struct, frozen=True, kw_only=True):
    name: str
    precision: str
    config: DecoderConfig
    weights: int
    engine: int
    evidence: str
    kv: tuple[str, ...]


def fit_models(request: FitRequest) -> LlmFitReport:
    """Return for each model which formats fit. Raises UsageError, and the errors of the models' files."""
    memory = parse_size(request.memory)
    if not memory:
        raise UsageError(f"--memory {request.memory} is no size", "a size is a number with a unit", "--memory 4GB")
    for name, value in (("--context", request.context), ("--batch", request.batch)):
        if value < 1:
            raise UsageError(f"{name} {value} is not possible", "it must be above 0", f"{name} 1")
    rows, notes = [], []
    for model in request.models:
        for sizes in _list_sizes(Path(model), request):
            if request.context > sizes.config.context:
                notes.append(f"{sizes.name} was made for {sizes.config.context} tokens, fewer than {request.context}.")
            rows += [_make_row(sizes, kv, request, memory) for kv in sizes.kv]
    return LlmFitReport(
        memory_bytes=int(memory),
        context=request.context,
        batch=request.batch,
        fits=tuple(rows),
        answer=_make_answer(rows, memory),
        notes=tuple(dict.fromkeys(notes)),
    )


def _list_sizes(path: Path, request: FitRequest) -> Iterator[_Sizes]:
    """Yield the precisions of a model: those of its artifacts, or all of them for a source."""
    candidates = find_candidates(path)
    for one in candidates:
        engine = _read_evidence(one)
        evidence = "files" if engine is None else "measured"
        yield _Sizes(
            name=one.name,
            precision=one.precision,
            config=one.config,
            weights=one.record.bytes,
            engine=ENGINE_BYTES if engine is None else engine,
            evidence=evidence,
            kv=one.kv_formats,
        )
    if candidates:
        return
    config = read_config(path)
    for precision in PRECISIONS:
        weights = estimate_weights(config, precision)
        yield _Sizes(
            name=path.name,
            precision=precision,
            config=config,
            weights=weights,
            engine=ENGINE_BYTES,
            evidence="estimated",
            kv=KV_FORMATS,
        )


def _read_evidence(candidate: LanguageCandidate) -> int | None:
    """Return the memory of the engine alone, from the last benchmark of an artifact; None if there is none.

    It is the measured peak without the files' bytes, the cache and the activations of that benchmark.
    """
    import msgspec

    try:
        report = msgspec.json.decode((candidate.path.parent / EVIDENCE_FILE).read_bytes(), type=LlmBenchmarkReport)
    except (OSError, msgspec.MsgspecError):
        return None
    rows = [one for one in report.rows if one.path == str(candidate.path.resolve()) and one.peak_bytes]
    if not rows:
        return None
    row = max(rows, key=lambda one: one.prompt)
    context = row.prompt + report.generate
    used = estimate_cache(candidate.config, row.engine_kv or row.kv, context, 1) + estimate_activations(
        candidate.config, context, 1
    )
    return max(0, (row.peak_bytes or 0) - candidate.record.bytes - used)


def _make_row(sizes: _Sizes, kv: str, request: FitRequest, memory: float) -> FitRow:
    cache = estimate_cache(sizes.config, kv, request.context, request.batch)
    runtime = sizes.engine + estimate_activations(sizes.config, request.context, request.batch)
    needed = sizes.weights + cache + runtime
    left = memory - sizes.weights - sizes.engine
    return FitRow(
        model=sizes.name,
        precision=sizes.precision,
        kv=kv,
        bytes=needed,
        fits=needed <= memory,
        weights_bytes=sizes.weights,
        kv_bytes=cache,
        runtime_bytes=runtime,
        longest_context=find_longest_context(sizes.config, kv, request.batch, left),
        evidence=sizes.evidence,
    )


def _make_answer(rows: Sequence[FitRow], memory: float) -> str:
    fitting = [one for one in rows if one.fits]
    if not fitting:
        least = min(rows, key=lambda one: one.bytes)
        return (
            f"Nothing fits: the least is {show_bytes(least.bytes)}, {least.model} in {least.precision} and {least.kv}."
        )
    best = max(fitting, key=lambda one: one.bytes)
    largest = f"{best.model} in {best.precision} and {best.kv}, {show_bytes(best.bytes)} of {show_bytes(memory)}"
    return f"{len(fitting)} of {len(rows)} combinations fit; the largest is {largest}."
