"""`llm evaluate`: quality of compressed language models on held-out text, and the gate on it."""

from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from math import inf, isfinite
from pathlib import Path

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from edgewright.errors import DataError, EdgewrightError, GateFailed, ModelRejected, RuntimeMissing, UsageError
from edgewright.flows.llm.candidates import (
    REFERENCE,
    LanguageCandidate,
    list_candidates,
    open_engine,
    read_restored,
    read_source,
)
from edgewright.llm.kv.streaming import StreamingQuantizer
from edgewright.llm.model import DecoderModel
from edgewright.llm.quality.evaluation import (
    PREFIX_TOKENS,
    Expected,
    Quality,
    ScoredModel,
    answer_prompts,
    cut_windows,
    evaluate_model,
    list_starts,
)
from edgewright.llm.quality.prompts import ExpectedAnswer, read_prompts
from edgewright.llm.quality.scores import score_tokens
from edgewright.llm.quality.session import ReferenceSession
from edgewright.schema.arrays import Array
from edgewright.system.files import read_regular
from edgewright.system.temporary import TemporaryFolder

KV_FORMATS = ("fp16", "kv8", "kv4")
DEFAULT_CONTEXT = 512
Progress = Callable[[str], object]


class EvaluateRequest(Struct, frozen=True, kw_only=True):
    """What is evaluated, on which text, and the gate.

    Attributes:
        artifacts: folders of `llm compile`, or single artifacts.
        max_kld: largest mean KL divergence in nats; None for no gate.
        min_passed: smallest share of right answers to the prompts.
        context: tokens of a window; None for the model's context, at most 512.
    """

    artifacts: tuple[str, ...]
    text: str
    kv_precision: tuple[str, ...] = ("fp16",)
    max_kld: float | None = None
    prompts: str = ""
    min_passed: float | None = None
    context: int | None = None
    tokens: int = 8192
    threads: int = 1


class QualityRow(Struct, frozen=True, kw_only=True):
    """One artifact with one format of keys and values.

    Attributes:
        runtime: an engine, or `reference` for Edgewright's own implementation in numpy.
        engine_kv: the engine's own format, float32 if fp16 was asked for and it has no other.
        nll: nats per token; `nll_change` is its difference to full precision.
        kld: KL divergence from the full-precision distribution in nats per token.
        top1_agreement: share of tokens with the same most likely next token.
        prefix: mean number of greedy tokens in common with full precision, of `prefix_of`.
        passed, asked: prompts with the right answer, and all prompts.
        state: passed, failed (a gate is missed, or the model is unusable), measured (no gate), missing (the engine is
            not set up), unsupported (the engine has no such format) or error.
    """

    runtime: str
    precision: str
    kv: str
    path: str
    state: str
    reason: str | None = None
    engine_kv: str | None = None
    nll: float | None = None
    nll_low: float | None = None
    nll_high: float | None = None
    nll_change: float | None = None
    kld: float | None = None
    kld_low: float | None = None
    kld_high: float | None = None
    top1_agreement: float | None = None
    prefix: float | None = None
    prefix_of: int | None = None
    passed: int | None = None
    asked: int | None = None


class LlmEvaluationReport(Struct, frozen=True, kw_only=True):
    """The rows, and what they were measured on (edgewright.llm-evaluation/1).

    Attributes:
        reference_nll: of the full-precision model, in nats per token.
    """

    schema: str = "edgewright.llm-evaluation/1"
    model: str
    text: str
    text_sha256: str
    tokens: int
    windows: int
    reference_nll: float
    rows: tuple[QualityRow, ...]
    answer: str


class _Standard(Struct, frozen=True, kw_only=True):
    """What every artifact is compared with."""

    model: DecoderModel
    expected: Expected
    nll: float
    prompts: tuple[ExpectedAnswer, ...]


def evaluate_artifacts(
    request: EvaluateRequest, progress: Progress
) -> tuple[LlmEvaluationReport, EdgewrightError | None]:
    """Evaluate all artifacts in all formats of keys and values.

    Returns:
        The report, and GateFailed if a gate is missed or RuntimeMissing if no engine is set up.

    Raises UsageError, ConfigError and DataError for a request that cannot be met, and the errors of the source model.
    """
    _check(request)
    prompts = read_prompts(Path(request.prompts)) if request.prompts else ()
    candidates = list_candidates(request.artifacts)
    model = read_source(candidates)
    data, text = _read_text(Path(request.text))
    with TemporaryFolder("llm") as folder:
        expected, nll = _compute_expected(model, _cut(model, text, request), folder, progress)
        standard = _Standard(model=model, expected=expected, nll=nll, prompts=prompts)
        rows = tuple(_evaluate_all(candidates, request, standard, progress))
    report = LlmEvaluationReport(
        model=model.name,
        text=request.text,
        text_sha256=sha256(data).hexdigest(),
        tokens=sum(len(one) - 1 for one in expected.windows),
        windows=len(expected.windows),
        reference_nll=nll,
        rows=rows,
        answer=_make_answer(rows, request),
    )
    return report, _find_error(rows)


def _check(request: EvaluateRequest) -> None:
    unknown = [one for one in request.kv_precision if one not in KV_FORMATS]
    if unknown or not request.kv_precision:
        what = f"--kv-precision {','.join(request.kv_precision)} is not possible"
        raise UsageError(what, f"known: {', '.join(KV_FORMATS)}" if unknown else "it is empty", "--kv-precision fp16")
    for name, value, least, most, example in (
        ("--max-kld", request.max_kld, 0.0, inf, 0.05),
        ("--min-passed", request.min_passed, 0.0, 1.0, 0.9),
        ("--context", request.context, 2.0, inf, 256),
        ("--tokens", request.tokens, 2.0, inf, 8192),
    ):
        if value is not None and not least <= value <= most:
            between = f"at least {least:g}" if most == inf else f"from {least:g} to {most:g}"
            raise UsageError(f"{name} {value:g} is not possible", f"it is a number {between}", f"{name} {example:g}")
    if request.min_passed is not None and not request.prompts:
        raise UsageError("--min-passed needs --prompts", "there are no answers to count", "--prompts prompts.toml")


def _read_text(path: Path) -> tuple[bytes, str]:
    """Return the file and its text."""
    try:
        data = read_regular(path)
        text = data.decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"the text {path} cannot be read", error.strerror or str(error), "check --text") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8", str(error), f"iconv -f latin1 -t utf-8 {path}") from None
    if not text.strip():
        raise DataError(f"{path} has no text", "it is empty", "give a text that the model was not trained on")
    return data, text


def _cut(model: DecoderModel, text: str, request: EvaluateRequest) -> tuple[tuple[int, ...], ...]:
    context = model.config.context
    length = request.context or min(context, DEFAULT_CONTEXT)
    if length > context:
        why = f"the context of {model.name} has {context}"
        raise UsageError(f"--context {length} is not possible", why, f"--context {context}")
    tokens = model.tokenizer.encode(text, begin=False)[: request.tokens]
    windows = cut_windows(tokens, length, model.tokenizer.bos)
    if len(windows[0]) < 2:
        raise DataError(f"{request.text} is too short", f"it has {len(tokens)} tokens", "give a longer text")
    return windows


def _compute_expected(
    model: DecoderModel, windows: tuple[tuple[int, ...], ...], folder: Path, progress: Progress
) -> tuple[Expected, float]:
    """Return the full-precision results, whose logits are in files, and their NLL."""
    session, losses = ReferenceSession(model), []
    for number, window in enumerate(windows):
        progress(f"full precision: window {number + 1} of {len(windows)}")
        logits = session.logits(window[:-1])
        if not np.isfinite(logits).all():
            why = "the full-precision logits are not finite"
            raise DataError(f"{model.name} cannot be evaluated on this text", why, "check the source model's weights")
        np.save(folder / f"{number}.npy", logits)
        losses.append(score_tokens(logits, logits, np.array(window[1:])).nll)
    greedy = tuple(tuple(session.complete(start, PREFIX_TOKENS)) for start in list_starts(windows))

    def read(number: int) -> Array:
        logits: Array = np.load(folder / f"{number}.npy")
        return logits

    return Expected(windows=windows, read_logits=read, greedy=greedy), float(np.concatenate(losses).mean())


def _evaluate_all(
    candidates: Sequence[LanguageCandidate], request: EvaluateRequest, standard: _Standard, progress: Progress
) -> Iterator[QualityRow]:
    for candidate in candidates:
        for kv in request.kv_precision if candidate.runtime != REFERENCE else ():
            yield _evaluate_engine(candidate, kv, request, standard, progress)
    for precision, path, model in _list_restored(candidates, standard.model):
        for kv in request.kv_precision:
            row = QualityRow(runtime=REFERENCE, precision=precision, kv=kv, path=path, state="measured")
            quantizer = StreamingQuantizer(int(kv.removeprefix("kv")), model.config) if kv.startswith("kv") else None
            yield _evaluate(row, ReferenceSession(model, quantizer), request, standard, progress)


def _list_restored(
    candidates: Sequence[LanguageCandidate], source: DecoderModel
) -> Iterator[tuple[str, str, DecoderModel]]:
    """Yield what the reference implementation evaluates, each with its precision and path.

    These are its own artifacts, and of each other precision one: the source, or a file that has the weights.
    """
    own = [one for one in candidates if one.runtime == REFERENCE]
    seen = set()
    for candidate in own:
        seen.add(candidate.precision)
        if (model := read_restored(candidate)) is not None:
            yield candidate.precision, str(candidate.path), model
    if "fp32" not in seen:
        yield "fp32", source.name, source
    for candidate in candidates:
        if candidate.precision not in {"fp32", *seen} and (model := read_restored(candidate)) is not None:
            seen.add(candidate.precision)
            yield candidate.precision, str(candidate.path), model


def _evaluate_engine(
    candidate: LanguageCandidate, kv: str, request: EvaluateRequest, standard: _Standard, progress: Progress
) -> QualityRow:
    row = QualityRow(
        runtime=candidate.runtime, precision=candidate.precision, kv=kv, path=str(candidate.path), state="measured"
    )
    if candidate.missing:
        return replace(row, state="missing", reason=candidate.missing)
    if not (own := candidate.find_kv(kv)):
        why = f"{candidate.runtime} has no such format; the rows of `{REFERENCE}` have Edgewright's streaming one"
        return replace(row, state="unsupported", reason=why)
    try:
        with open_engine(candidate, own, request.threads) as session:
            return _evaluate(replace(row, engine_kv=own), session, request, standard, progress)
    except RuntimeMissing as error:
        return replace(row, state="missing", reason=error.try_this)
    except EdgewrightError as error:
        return replace(row, state="error", reason=str(error))


def _evaluate(
    row: QualityRow, session: ScoredModel, request: EvaluateRequest, standard: _Standard, progress: Progress
) -> QualityRow:
    title = f"{row.runtime} {row.precision} {row.kv}"
    quality = evaluate_model(session, standard.expected, lambda text: progress(f"{title}: {text}"))
    tokenizer = standard.model.tokenizer

    def complete(text: str, count: int) -> str:
        tokens = session.complete(tokenizer.encode(text), count)
        return tokenizer.decode([one for one in tokens if one not in tokenizer.eos]).decode("utf-8", "replace")

    answers = answer_prompts(standard.prompts, complete)
    passed = sum(is_right for _, is_right in answers) if answers else None
    reason = quality.fault or _find_miss(quality, passed, len(answers), request)
    has_gate = request.max_kld is not None or request.min_passed is not None
    return replace(
        row,
        state="failed" if reason else "passed" if has_gate else "measured",
        reason=reason or None,
        nll=_clean(quality.nll),
        nll_low=quality.nll_low,
        nll_high=quality.nll_high,
        nll_change=_clean(quality.nll - standard.nll),
        kld=_clean(quality.kld),
        kld_low=quality.kld_low,
        kld_high=quality.kld_high,
        top1_agreement=quality.top1_agreement,
        prefix=quality.prefix,
        prefix_of=quality.prefix_of,
        passed=passed,
        asked=len(answers) or None,
    )


def _clean(value: float) -> float | None:
    return value if isfinite(value) else None


def _find_miss(quality: Quality, passed: int | None, asked: int, request: EvaluateRequest) -> str:
    if request.max_kld is not None and not quality.kld <= request.max_kld:
        return f"the KL divergence is {quality.kld:.4g}, above {request.max_kld:g}"
    if request.min_passed is not None and passed is not None and passed < request.min_passed * asked:
        return f"{passed} of {asked} prompts have the right answer, below {request.min_passed:.0%}"
    return ""


def _make_answer(rows: Sequence[QualityRow], request: EvaluateRequest) -> str:
    measured = [one for one in rows if one.runtime != REFERENCE and one.kld is not None]
    failed = sum(one.state == "failed" for one in rows)
    if failed:
        return f"{failed} of {len(rows)} rows miss the gate."
    if not measured:
        return "Only the reference implementation was evaluated."
    worst = max(measured, key=lambda one: one.kld or 0.0)
    return (
        f"The largest KL divergence is {worst.kld:.4g}, of {worst.runtime} {worst.precision} {worst.kv}, "
        f"with {worst.top1_agreement:.1%} of the same most likely tokens."
    )


def _find_error(rows: Sequence[QualityRow]) -> EdgewrightError | None:
    failed = [one for one in rows if one.state == "failed"]
    if failed:
        why = "\n".join(f"{one.runtime} {one.precision} {one.kv}: {one.reason}" for one in failed)
        hint = "use a larger precision for them, or leave them out"
        return GateFailed(f"{len(failed)} of {len(rows)} rows miss the gate", why, hint)
    engines = [one for one in rows if one.runtime != REFERENCE]
    if engines and all(one.state == "missing" for one in engines):
        return RuntimeMissing("no engine of these artifacts is set up", "", engines[0].reason or "")
    if engines and all(one.state in ("missing", "error", "unsupported") for one in engines):
        first = next((one for one in engines if one.state == "error"), engines[0])
        return ModelRejected("no engine could be evaluated", f"{first.runtime}: {first.reason}", "")
    return None
