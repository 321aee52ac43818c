"""`edgewright llm compile`: a language model as artifacts of several engines and precisions."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from msgspec import Struct

from edgewright.errors import EdgewrightError, ModelRejected, OutputError, RuntimeMissing, UsageError
from edgewright.flows.compile.publication import hash_artifact, raise_output_errors
from edgewright.llm.artifacts import (
    RECORD,
    TEMPLATE,
    LanguageArtifact,
    WeightQuantization,
    is_artifact,
    write_artifact_record,
)
from edgewright.llm.engines.client import EngineClient, make_engine_command
from edgewright.llm.engines.files import find_target, write_tokenizer
from edgewright.llm.engines.table import EngineInfo, find_engine
from edgewright.llm.engines.wire import OpenEngine
from edgewright.llm.model import DecoderModel, pad_model
from edgewright.llm.quality.scores import score_tokens
from edgewright.llm.reference import Reference
from edgewright.llm.sampling import sample_texts
from edgewright.llm.sources.open import open_model
from edgewright.llm.weights.packed import GROUP, Packed
from edgewright.llm.weights.quantize import Calibration, QuantizedModel, quantize_4bit, quantize_8bit
from edgewright.schema.arrays import Array
from edgewright.schema.text import suggest
from edgewright.system.disk import check_free_bytes
from edgewright.system.temporary import create_sibling

PRECISIONS = ("fp32", "w8", "w4")
METHODS = ("gptq", "rounding")
CHECK_TEXTS, CHECK_TOKENS, CHECK_SEED = 2, 48, 1
# Engines round activations to 8 bits, and their results differ from float32 by less than this.
MOST_DIVERGENCE = 0.05
Progress = Callable[[str], None]
State = Literal["done", "missing", "rejected", "failed"]


class LanguageCompileRequest(Struct, frozen=True, kw_only=True):
    """What is compiled for which engines.

    Attributes:
        tokenizer: its file; empty if the model has its own.
        method: of the 4-bit weights: "gptq" or "rounding".
        environments: folder of the isolated environments; None to use none.
    """

    model: str
    tokenizer: str = ""
    runtimes: tuple[str, ...]
    precisions: tuple[str, ...]
    output: str
    method: str = "gptq"
    seed: int = Calibration().seed
    environments: Path | None = None


class CompiledLanguageModel(Struct, frozen=True, kw_only=True):
    """One artifact.

    Attributes:
        path: of its folder; None unless it is done.
        reason: why it is not done, and what to do.
        divergence: Kullback-Leibler divergence per token of the engine's distribution from that of the reference
            computation with the same weights, on texts that the model wrote itself; None if it was not compared.
        notes: what was padded, and what the engine's format cannot hold.
    """

    runtime: str
    precision: str
    path: str | None
    bytes: int | None
    state: State
    reason: str
    divergence: float | None = None
    notes: tuple[str, ...] = ()


class LanguageCompileReport(Struct, frozen=True, kw_only=True):
    """The keys of edgewright.llm-compile/1."""

    schema: str = "edgewright.llm-compile/1"
    model: str
    parameters: int
    artifacts: tuple[CompiledLanguageModel, ...]
    answer: str


class _Work:
    """What the artifacts of one command share: the source, and models that are padded and quantized once."""

    def __init__(self, request: LanguageCompileRequest, progress: Progress) -> None:
        self.request, self.progress = request, progress
        self.source = open_model(Path(request.model), Path(request.tokenizer) if request.tokenizer else None)
        self.quantized: dict[tuple[int, int, str], QuantizedModel] = {}
        self.texts: Array | None = None

    def quantize(self, engine: EngineInfo, precision: str) -> QuantizedModel:
        """Return the padded model with quantized weights."""
        model = pad_model(self.source, engine.head_multiple, engine.hidden_multiple)
        key = (model.config.head_size, model.config.hidden, precision)
        if key not in self.quantized:
            self.quantized[key] = self._quantize(model, precision)
        return self.quantized[key]

    def _quantize(self, model: DecoderModel, precision: str) -> QuantizedModel:
        if precision == "fp32":
            return QuantizedModel(model, {})
        if precision == "w8":
            return quantize_8bit(model)
        calibration = Calibration(seed=self.request.seed) if self.request.method == "gptq" else None
        return quantize_4bit(model, calibration, self.progress)

    def write_texts(self) -> Array:
        """Return the texts of the comparison, which the source wrote, [texts, tokens]."""
        if self.texts is None:
            tokens = min(CHECK_TOKENS, self.source.config.context) - 1
            self.texts = sample_texts(Reference(self.source), CHECK_TEXTS, tokens, CHECK_SEED)
        return self.texts


def compile_language_model(request: LanguageCompileRequest, progress: Progress) -> LanguageCompileReport:
    """Write one artifact for each engine and precision, and compare each with the reference computation.

    Raises:
        UsageError: an unknown engine, precision or method, or no tokenizer.
        ModelError: the source cannot be read.
        RuntimeMissing: none of the engines is set up.
        ModelRejected: there is no artifact at all.
        OutputError: the output cannot be written.
    """
    engines = _check(request)
    work = _Work(request, progress)
    rows = tuple(row for engine in engines for row in _compile_all(work, engine))
    done = [row for row in rows if row.state == "done"]
    model = work.source
    report = LanguageCompileReport(
        model=model.name,
        parameters=sum(model.weights[name].size for name in model.weights),
        artifacts=rows,
        answer=f"{len(done)} of {len(rows)} artifacts of {model.name} are in {request.output}.",
    )
    if not done:
        raise _attach(_make_failure(rows), report)
    return report


def _attach(error: EdgewrightError, report: LanguageCompileReport) -> EdgewrightError:
    error.result = report
    return error


def _make_failure(rows: Sequence[CompiledLanguageModel]) -> EdgewrightError:
    reasons = "\n".join(dict.fromkeys(f"{row.runtime}: {row.reason}" for row in rows))
    if all(row.state == "missing" for row in rows):
        return RuntimeMissing("none of the engines is set up", reasons, rows[0].reason.rpartition(": ")[2])
    return ModelRejected("no artifact was made", reasons, "choose other engines with --runtime")


def _check(request: LanguageCompileRequest) -> list[EngineInfo]:
    """Return the engines. Raises UsageError for unknown words, and OutputError for an output that is a file."""
    if not request.runtimes or not request.precisions:
        raise UsageError("nothing is to be compiled", "--runtime or --precision is empty", "--precision fp32,w8,w4")
    for word in request.precisions:
        if word not in PRECISIONS:
            raise UsageError(
                f"unknown precision '{word}'{suggest(word, PRECISIONS)}", f"known: {', '.join(PRECISIONS)}",
                "--precision fp32,w8,w4",
            )  # fmt: skip
    if request.method not in METHODS:
        raise UsageError(f"unknown method '{request.method}'", f"known: {', '.join(METHODS)}", "--method gptq")
    if Path(request.output).is_file():
        raise OutputError(f"{request.output} is a file", "artifacts are folders in it", "choose another --output")
    return [find_engine(word) for word in dict.fromkeys(request.runtimes)]


def _compile_all(work: _Work, engine: EngineInfo) -> list[CompiledLanguageModel]:
    """Return the artifacts of one engine."""
    precisions = tuple(dict.fromkeys(work.request.precisions))
    try:
        make_engine_command(work.request.environments, engine)
        find_target(engine, work.source)
    except RuntimeMissing as error:
        return [_make_row(engine, one, "missing", f"{error.why}: {error.try_this}") for one in precisions]
    except EdgewrightError as error:
        return [_make_row(engine, one, "rejected", f"{error.why}; {error.try_this}") for one in precisions]
    return [_compile_one(work, engine, one) for one in precisions]


def _make_row(engine: EngineInfo, precision: str, state: State, reason: str) -> CompiledLanguageModel:
    return CompiledLanguageModel(
        runtime=engine.name, precision=precision, path=None, bytes=None, state=state, reason=reason
    )


def _compile_one(work: _Work, engine: EngineInfo, precision: str) -> CompiledLanguageModel:
    output = Path(work.request.output)
    target = output / f"{work.source.name}-{engine.name}-{precision}"
    work.progress(f"{engine.name} {precision}")
    quantized = work.quantize(engine, precision)
    with raise_output_errors(output):
        output.mkdir(parents=True, exist_ok=True)
        if target.exists() and not is_artifact(target):
            raise OutputError(f"{target} has other files", "it is not a compiled model", "choose another --output")
        with create_sibling(target) as part:
            part.mkdir()
            record = _write(work, engine, precision, quantized, part)
            try:
                divergence = _compare(work, engine, record, part, quantized)
            except EdgewrightError as error:
                return _make_row(engine, precision, "failed", f"{error.what}: {error.why}")
            if not divergence <= MOST_DIVERGENCE:
                why = f"its distribution differs from the reference computation by {divergence:.3g} per token"
                return _make_row(engine, precision, "failed", why)
            _publish(part, target)
    return CompiledLanguageModel(
        runtime=engine.name,
        precision=precision,
        path=str(target),
        bytes=record.bytes,
        state="done",
        reason="",
        divergence=divergence,
        notes=record.notes,
    )


def _publish(part: Path, target: Path) -> None:
    """Move the new folder into place of an older artifact."""
    if target.exists():
        (target / RECORD).unlink()
        shutil.rmtree(target)
    part.rename(target)


def _write(
    work: _Work, engine: EngineInfo, precision: str, quantized: QuantizedModel, folder: Path
) -> LanguageArtifact:
    source, request = work.source, work.request
    target = find_target(engine, source)
    check_free_bytes(folder.parent, _estimate_bytes(quantized), f"{engine.title} {precision}")
    target.write(folder, quantized)
    write_tokenizer(folder, quantized.model)
    if source.chat_template:
        (folder / TEMPLATE).write_text(source.chat_template, encoding="utf-8")
    files, size = hash_artifact(folder, target.main)
    record = LanguageArtifact(
        name=source.name,
        runtime=engine.name,
        precision=precision,
        main=target.main,
        files=files,
        bytes=size,
        config=quantized.model.config,
        source=str(Path(request.model).absolute()),
        source_sha256=source.sha256,
        tokenizer=str(Path(request.tokenizer).absolute()) if request.tokenizer else "",
        bos=source.tokenizer.bos,
        eos=source.tokenizer.eos,
        quantization=_describe_quantization(request, quantized, precision),
        notes=_describe_padding(engine, quantized.model),
    )
    write_artifact_record(record, folder)
    return record


def _estimate_bytes(quantized: QuantizedModel) -> int:
    """Return about the size of the weights."""
    whole = sum(quantized.model.weights[name].size for name in quantized.model.weights if name not in quantized.packed)
    return 4 * whole + sum(matrix.codes.size * matrix.bits // 8 for matrix in quantized.packed.values())


def _describe_padding(engine: EngineInfo, model: DecoderModel) -> tuple[str, ...]:
    padding = model.config.padding
    if padding is None:
        return ()
    pairs: Mapping[str, tuple[int, int]] = {
        "heads": (padding.head_size, padding.padded_head_size),
        "feed-forward parts": (padding.hidden, padding.padded_hidden),
    }
    changed = [f"{what} from {old} to {new}" for what, (old, new) in pairs.items() if old != new]
    return (f"padded with zeros for {engine.title}: {', '.join(changed)}",)


def _describe_quantization(
    request: LanguageCompileRequest, quantized: QuantizedModel, precision: str
) -> WeightQuantization | None:
    if not quantized.packed:
        return None
    layers = [matrix for name, matrix in quantized.packed.items() if name.startswith("layers.")]
    stored = sum(matrix.codes.size * matrix.bits + 16 * _count_constants(matrix) for matrix in layers)
    calibrated = precision == "w4" and request.method == "gptq"
    bits = {name: quantized.packed[name].bits if name in quantized.packed else 32 for name in ("embedding", "head")}
    tied = quantized.model.config.tied
    calibration = Calibration(seed=request.seed)
    return WeightQuantization(
        method="gptq" if calibrated else "rounding",
        bits=layers[0].bits if layers else 32,
        group=GROUP,
        zero_point="float" if precision == "w4" else "none",
        bits_per_weight=stored / max(1, sum(matrix.codes.size for matrix in layers)),
        embedding_bits=bits["embedding"],
        head_bits=bits["embedding" if tied else "head"],
        calibration_tokens=calibration.texts * min(calibration.tokens, quantized.model.config.context) * calibrated,
        calibration_seed=request.seed if calibrated else 0,
    )


def _count_constants(matrix: Packed) -> int:
    return matrix.scales.size + (0 if matrix.minima is None else matrix.minima.size)


def _compare(
    work: _Work, engine: EngineInfo, record: LanguageArtifact, folder: Path, quantized: QuantizedModel
) -> float:
    """Return how far the engine's distributions are from those of the reference computation with the same weights."""
    texts = work.write_texts()
    wanted = Reference(quantized.model).forward(texts)
    with EngineClient(work.request.environments, engine.name) as client:
        client.open(OpenEngine(folder=str(folder), main=record.main))
        found = np.stack([client.logits(text.tolist()) for text in texts])
    vocabulary = wanted.shape[-1]
    scores = score_tokens(found.reshape(-1, vocabulary), wanted.reshape(-1, vocabulary), texts.ravel())
    return float(scores.kld.mean())
