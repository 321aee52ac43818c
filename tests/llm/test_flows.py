"""`llm evaluate`, `benchmark` and `fit` on artifacts of engines that are functions."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgewright.errors import DataError, ModelRejected, RuntimeMissing, UsageError, WorkerCrashed
from edgewright.flows.llm import benchmark as benchmark_flow
from edgewright.flows.llm import evaluate as evaluate_flow
from edgewright.flows.llm import fit as fit_flow
from edgewright.flows.llm.benchmark import BenchmarkRequest, benchmark_artifacts
from edgewright.flows.llm.candidates import LanguageCandidate
from edgewright.flows.llm.evaluate import EvaluateRequest, evaluate_artifacts
from edgewright.flows.llm.fit import FitRequest, fit_models
from edgewright.llm.artifacts import LanguageArtifact
from edgewright.llm.engines.wire import EngineMemory
from edgewright.llm.measure.speed import GenerationTimes
from edgewright.llm.model import DecoderModel
from edgewright.llm.quality import evaluation
from edgewright.llm.quality.session import ReferenceSession
from edgewright.tasks.metrics.intervals import ConfidenceInterval
from tests.llm.untied import TEXT, exchange_absent_tokens, make_untied

SETUP = "edgewright runtimes setup other --yes"


def make_candidate(name: str, *, size: int = 50_000, missing: str = "") -> LanguageCandidate:
    runtime, _, precision = name.partition("-")
    record = LanguageArtifact(
        name="tiny",
        runtime=runtime,
        precision=precision,
        main=".",
        files={},
        bytes=size,
        config=make_untied().config,
        source="tiny.bin",
        source_sha256="",
    )
    return LanguageCandidate(
        name=name, path=Path(f"o/{name}"), record=record, kv_formats=("fp32", "kv8"), missing=missing
    )


class Speaking(ReferenceSession):
    """An engine with times that are given."""

    start_us, load_us = 1000.0, 500.0

    def __init__(self, model: DecoderModel, token_us: float = 100.0) -> None:
        super().__init__(model)
        self.token_us = token_us

    def time_generation(self, tokens: Sequence[int], count: int) -> GenerationTimes:
        return GenerationTimes(first_us=len(tokens) * self.token_us / 10, token_us=(self.token_us,) * (count - 1))

    def memory(self) -> EngineMemory:
        return EngineMemory(resident=1_000_000, peak=200_000_000)


def spoil(model: DecoderModel) -> DecoderModel:
    return model._replace(weights={**model.weights, "norm": np.full(64, np.nan, np.float32)})


Engines = dict[str, tuple[LanguageCandidate, Callable[[], Any]]]


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Engines:
    """Artifacts by name with what opens their engine; a test changes them. The text is `held.txt`."""
    found: Engines = {
        "good-fp32": (make_candidate("good-fp32"), lambda: Speaking(make_untied())),
        "bad-w4": (make_candidate("bad-w4"), lambda: Speaking(exchange_absent_tokens(make_untied()), 200.0)),
        "other-w8": (make_candidate("other-w8", missing=SETUP), lambda: None),
    }

    @contextmanager
    def open_engine(candidate: LanguageCandidate, kv: str, threads: int) -> Iterator[Any]:
        yield found[candidate.name][1]()

    for module in (evaluate_flow, evaluation):
        monkeypatch.setattr(module, "PREFIX_TOKENS", 8)
        monkeypatch.setattr(module, "PREFIX_PROMPTS", 2, raising=False)
    monkeypatch.setattr(evaluation, "bootstrap", lambda n, statistic: ConfidenceInterval(0.0, 1.0))
    for flow in (evaluate_flow, benchmark_flow):
        monkeypatch.setattr(flow, "open_engine", open_engine)
        monkeypatch.setattr(flow, "list_candidates", lambda paths: tuple(one for one, _ in found.values()))
    monkeypatch.setattr(evaluate_flow, "read_source", lambda candidates: make_untied())
    monkeypatch.chdir(tmp_path)
    Path("held.txt").write_text(TEXT)
    return found


def evaluate(**changes: Any) -> tuple[dict[tuple[str, str], Any], Any]:
    """Return the rows by runtime and format of keys and values, and the error."""
    request = EvaluateRequest(**{"artifacts": ("o",), "text": "held.txt", "context": 40, **changes})
    report, error = evaluate_artifacts(request, len)
    return {(one.runtime, one.kv): one for one in report.rows}, error


def test_a_row_for_each_artifact_and_format(engines: Engines) -> None:
    rows, error = evaluate(kv_precision=("fp16", "kv4"), max_kld=0.05)
    assert {key: one.state for key, one in rows.items()} == {
        ("good", "fp16"): "passed",
        ("good", "kv4"): "unsupported",
        ("bad", "fp16"): "failed",
        ("bad", "kv4"): "unsupported",
        ("other", "fp16"): "missing",
        ("other", "kv4"): "missing",
        ("reference", "fp16"): "passed",
        ("reference", "kv4"): "passed",
    }
    assert rows["other", "fp16"].reason == SETUP
    bad, good = rows["bad", "fp16"], rows["good", "fp16"]
    assert bad.nll == pytest.approx(good.nll, abs=1e-5)  # perplexity passes it
    assert bad.nll_change == pytest.approx(0, abs=1e-5)
    assert bad.kld > 0.05
    assert "above 0.05" in bad.reason
    assert good.top1_agreement == 1
    assert good.prefix == good.prefix_of == 8
    assert error.exit_code == 3


def test_without_a_gate_damage_is_only_measured(engines: Engines) -> None:
    rows, error = evaluate()
    assert rows["bad", "fp16"].state == "measured"
    assert error is None


def test_an_unusable_model_fails_without_a_gate(engines: Engines) -> None:
    engines["good-fp32"] = (make_candidate("good-fp32"), lambda: Speaking(spoil(make_untied())))
    rows, error = evaluate()
    assert rows["good", "fp16"].state == "failed"
    assert rows["good", "fp16"].kld is None
    assert "not finite" in rows["good", "fp16"].reason
    assert error.exit_code == 3


def test_an_engine_that_fails_leaves_the_others_alone(engines: Engines) -> None:
    def crash() -> None:
        raise WorkerCrashed("it ended", "signal 11", "again")

    engines["good-fp32"] = (make_candidate("good-fp32"), crash)
    rows, error = evaluate()
    assert rows["good", "fp16"].state == "error"
    assert rows["bad", "fp16"].state == "measured"
    assert error is None
    del engines["bad-w4"]
    assert isinstance(evaluate()[1], ModelRejected)


def test_no_engine_is_set_up(engines: Engines) -> None:
    del engines["good-fp32"], engines["bad-w4"]
    rows, error = evaluate()
    assert rows["reference", "fp16"].state == "measured"
    assert isinstance(error, RuntimeMissing)
    assert error.try_this == SETUP


def test_prompts_are_a_gate(engines: Engines) -> None:
    Path("p.toml").write_text(
        '[[prompt]]\ntext = "a"\nregex = "."\nmax_tokens = 4\n'
        '[[prompt]]\ntext = "b"\nexact = "never this"\nmax_tokens = 4\n'
    )
    rows, error = evaluate(prompts="p.toml", min_passed=0.9)
    assert (rows["good", "fp16"].passed, rows["good", "fp16"].asked) == (1, 2)
    assert error.exit_code == 3
    assert evaluate(prompts="p.toml", min_passed=0.5)[1] is None


@pytest.mark.parametrize(
    ("content", "changes", "error"),
    [
        (b"", {}, DataError),
        (b" \n", {}, DataError),
        (b"caf\xe9", {}, DataError),
        (TEXT.encode(), {"text": "none.txt"}, DataError),
        (TEXT.encode(), {"kv_precision": ("kv3",)}, UsageError),
        (TEXT.encode(), {"kv_precision": ()}, UsageError),
        (TEXT.encode(), {"max_kld": -1.0}, UsageError),
        (TEXT.encode(), {"max_kld": float("nan")}, UsageError),
        (TEXT.encode(), {"context": 129}, UsageError),
        (TEXT.encode(), {"context": 1}, UsageError),
        (TEXT.encode(), {"tokens": 1}, UsageError),
        (TEXT.encode(), {"min_passed": 0.5}, UsageError),
    ],
)
def test_requests_that_cannot_be_met(engines: Engines, content: bytes, changes: Any, error: type[Exception]) -> None:
    Path("held.txt").write_bytes(content)
    with pytest.raises(error):
        evaluate(**changes)


def test_speeds_with_intervals_and_verdicts(engines: Engines) -> None:
    Path("o").mkdir()
    request = BenchmarkRequest(artifacts=("o",), prompts=(10, 20), generate=8, processes=8, repeats=2)
    report, error = benchmark_artifacts(request, len)
    assert error is None
    rows = {(one.runtime, one.prompt): one for one in report.rows}
    good = rows["good", 20]
    assert good.ttft_us == pytest.approx(200)
    assert good.prefill_tokens_s == pytest.approx(100_000)
    assert good.decode_tokens_s == pytest.approx(10_000)
    assert good.cold_start_us == pytest.approx(1700)
    assert good.peak_bytes == 200_000_000
    assert set(good.low) == set(good.high) == {
        "ttft_us", "prefill_tokens_s", "decode_tokens_s", "cold_start_us", "peak_bytes",
    }  # fmt: skip
    assert all(good.low[name] <= getattr(good, name) <= good.high[name] for name in good.low)
    assert rows["other", 10].state == "missing"
    assert {(one.metric, one.prompt, one.verdict) for one in report.verdicts} == {
        (metric, prompt, "slower") for metric in ("ttft", "decode") for prompt in (10, 20)
    }
    assert report.verdicts[0].ratio == pytest.approx(2)


def test_what_does_not_fit_is_not_started(engines: Engines, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise AssertionError("it was started")

    engines.clear()
    engines["big-fp32"] = (make_candidate("big-fp32", size=10**15), fail)
    report, error = benchmark_artifacts(BenchmarkRequest(artifacts=("o",), prompts=(100,), generate=28), len)
    assert [one.state for one in report.rows] == ["limit"]
    assert "would be needed" in (report.rows[0].reason or "")
    assert isinstance(error, ModelRejected)
    engines["big-fp32"] = (make_candidate("big-fp32"), fail)
    report, error = benchmark_artifacts(BenchmarkRequest(artifacts=("o",), prompts=(121,), generate=8), len)
    assert [one.state for one in report.rows] == ["unsupported"]
    assert "context of 128" in (report.rows[0].reason or "")


@pytest.mark.parametrize(
    "changes", [{"generate": 0}, {"processes": 0}, {"prompts": ()}, {"threads": 0}, {"kv_precision": "kv3"}]
)
def test_benchmarks_that_mean_nothing(engines: Engines, changes: Any) -> None:
    with pytest.raises(UsageError):
        benchmark_artifacts(BenchmarkRequest(**{"artifacts": ("o",), **changes}), len)


def test_what_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit_flow, "find_candidates", lambda path: ())
    monkeypatch.setattr(fit_flow, "read_config", lambda path: make_untied().config)
    report = fit_models(FitRequest(models=("m.gguf",), memory="1GB", context=64))
    assert {(one.precision, one.kv) for one in report.fits} == {
        (precision, kv) for precision in ("fp16", "w8", "w4") for kv in ("fp16", "kv8", "kv4")
    }
    assert all(one.bytes == one.weights_bytes + one.kv_bytes + one.runtime_bytes for one in report.fits)
    assert all(one.fits for one in report.fits)
    assert {one.longest_context for one in report.fits} == {128}
    tight = fit_models(FitRequest(models=("m.gguf",), memory="1MB", context=64))
    assert not any(one.fits for one in tight.fits)
    assert "Nothing fits" in tight.answer
    long = fit_models(FitRequest(models=("m.gguf",), memory="1GB", context=2048))
    assert long.notes == ("m.gguf was made for 128 tokens, fewer than 2048.",)


@pytest.mark.parametrize("changes", [{"memory": "much"}, {"memory": "0GB"}, {"context": 0}, {"batch": 0}])
def test_sizes_that_mean_nothing(changes: Any) -> None:
    with pytest.raises(UsageError):
        fit_models(FitRequest(**{"models": ("m.gguf",), "memory": "1GB", **changes}))
