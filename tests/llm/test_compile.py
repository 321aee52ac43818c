"""`llm compile`: quantized weights, artifacts, and what is said of engines that cannot be used."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from edgewright.errors import ModelRejected, OutputError, RuntimeMissing, UsageError
from edgewright.flows.llm import compile as flow
from edgewright.flows.llm.compile import LanguageCompileRequest, compile_language_model
from edgewright.llm.artifacts import open_artifact_tokenizer, open_source, read_artifact_record
from edgewright.llm.engines.client import EngineClient
from edgewright.llm.engines.genai_writer import write_genai
from edgewright.llm.model import pad_model
from edgewright.llm.reference import Reference
from edgewright.llm.sources.gguf import read_gguf
from edgewright.llm.sources.gguf_writer import write_gguf
from edgewright.llm.weights.gptq import quantize_gptq, round_4bit
from edgewright.llm.weights.quantize import Calibration, QuantizedModel, quantize_4bit, quantize_8bit
from tests.llm.models import make_model

TOKENS = [1, 260, 261, 262, 300, 310, 270]


def make_inputs(rows: int, columns: int) -> np.ndarray:
    """Correlated inputs, some of them large."""
    random = np.random.default_rng(3)
    mixed = random.normal(size=(rows, 8)) @ random.normal(size=(8, columns)) + 0.3 * random.normal(size=(rows, columns))
    return (mixed * np.linspace(0.2, 3, columns)).astype(np.float32)


@pytest.mark.parametrize("integer", [False, True])
def test_gptq_keeps_the_outputs_better_than_rounding(integer: bool) -> None:
    inputs = make_inputs(400, 160)
    matrix = np.random.default_rng(4).normal(size=(48, 160)).astype(np.float32)
    moments = inputs.T @ inputs / len(inputs)
    errors = [
        float(((inputs @ (packed.restore() - matrix).T) ** 2).mean())
        for packed in (quantize_gptq(matrix, moments, integer=integer), round_4bit(matrix, integer=integer))
    ]
    assert errors[0] < 0.6 * errors[1]


def test_integer_zero_points_are_multiples_of_the_scale() -> None:
    packed = round_4bit(np.random.default_rng(4).normal(size=(8, 64)).astype(np.float32), integer=True)
    assert packed.minima is not None
    ratio = packed.minima / packed.scales
    np.testing.assert_allclose(ratio, np.rint(ratio), atol=1e-5)


def test_zeros_stay_zeros() -> None:
    assert not round_4bit(np.zeros((2, 64), np.float32)).restore().any()
    assert not quantize_gptq(np.zeros((2, 64), np.float32), np.zeros((64, 64), np.float32)).restore().any()


def test_more_bits_are_closer_to_full_precision() -> None:
    model = pad_model(make_model(), 8, 32)
    full = Reference(model).logits(TOKENS)
    calibration = Calibration(texts=4, tokens=32, seed=1)
    found = [quantize_8bit(model), quantize_4bit(model, calibration, lambda text: None)]
    errors = [float(np.abs(Reference(one.model).logits(TOKENS) - full).mean()) for one in found]
    assert 0 < errors[0] < 0.3 * errors[1]
    assert {matrix.bits for name, matrix in found[1].packed.items() if name.startswith("layers.")} == {4}
    assert found[1].packed["embedding"].bits == 8


def write_source(folder: Path, **changes: object) -> Path:
    write_gguf(folder / "tiny.gguf", make_model(**changes), {})
    return folder / "tiny.gguf"


def request(source: Path, **changes: object) -> LanguageCompileRequest:
    given = {"runtimes": ("reference",), "precisions": ("fp32",), "output": str(source.parent / "o"), **changes}
    return LanguageCompileRequest(model=str(source), **given)  # type: ignore[arg-type]


def test_artifacts_of_each_precision_compute_what_their_record_says(tmp_path: Path) -> None:
    source = write_source(tmp_path)
    report = compile_language_model(request(source, precisions=("fp32", "w8", "w4")), lambda text: None)
    assert [row.state for row in report.artifacts] == ["done"] * 3
    sizes = [row.bytes or 0 for row in report.artifacts]
    assert sizes == sorted(sizes, reverse=True)
    assert all(row.divergence is not None and row.divergence < 1e-6 for row in report.artifacts)
    folder = Path(report.artifacts[2].path or "")
    record = read_artifact_record(folder)
    assert record.quantization is not None
    assert (record.quantization.method, record.quantization.bits, record.quantization.bits_per_weight) == ("gptq", 4, 5)
    assert record.config.padding is not None and "from 80 to 96" in record.notes[0]
    assert open_source(record).sha256 == record.source_sha256
    tokenizer = open_artifact_tokenizer(record, folder)
    assert tokenizer.encode("the cat é") == make_model().tokenizer.encode("the cat é")
    again = compile_language_model(request(source, precisions=("w4",), method="rounding"), lambda text: None)
    assert again.artifacts[0].path == str(folder)
    assert read_artifact_record(folder).quantization.method == "rounding"  # type: ignore[union-attr]


def test_engines_that_are_not_set_up_are_named_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgewright.llm.engines.client.find_spec", lambda name: None)
    source = write_source(tmp_path)
    report = compile_language_model(request(source, runtimes=("llamacpp", "reference")), lambda text: None)
    assert [row.state for row in report.artifacts] == ["missing", "done"]
    assert "edgewright runtimes setup llamacpp --yes" in report.artifacts[0].reason
    with pytest.raises(RuntimeMissing, match="none of the engines"):
        compile_language_model(request(source, runtimes=("llamacpp", "litert-lm")), lambda text: None)


def test_an_engine_that_cannot_take_the_model_says_so_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flow, "make_engine_command", lambda environments, engine: [])
    source = write_source(tmp_path, family="qwen3")
    with pytest.raises(ModelRejected) as caught:
        compile_language_model(
            request(source, runtimes=("litert-lm", "onnxruntime-genai", "llamacpp")), lambda text: None
        )
    report = caught.value.result
    assert [row.state for row in report.artifacts] == ["rejected"] * 3
    assert "qwen3" in report.artifacts[1].reason and "normalized" in report.artifacts[2].reason
    assert not (tmp_path / "o").exists()


def test_an_engine_with_other_results_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EngineClient, "logits", lambda self, tokens: np.full((len(tokens), 320), np.nan, np.float32))
    with pytest.raises(ModelRejected, match="no artifact"):
        compile_language_model(request(write_source(tmp_path)), lambda text: None)
    assert list((tmp_path / "o").iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"precisions": ("w3",)}, UsageError),
        ({"runtimes": ("llama",)}, UsageError),
        ({"method": "awq"}, UsageError),
        ({"runtimes": ()}, UsageError),
    ],
)
def test_unknown_words(tmp_path: Path, changes: dict[str, object], kind: type[Exception]) -> None:
    with pytest.raises(kind):
        compile_language_model(request(write_source(tmp_path), **changes), lambda text: None)


def test_an_output_with_other_files_stays(tmp_path: Path) -> None:
    source = write_source(tmp_path)
    mine = tmp_path / "o" / "tiny-reference-fp32"
    mine.mkdir(parents=True)
    (mine / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="other files"):
        compile_language_model(request(source), lambda text: None)
    assert (mine / "notes.txt").read_text() == "mine"


def test_the_command(tmp_path: Path) -> None:
    from edgewright.cli.commands.llm.compile import compile_command

    source = write_source(tmp_path)
    words = [str(source), "--runtime", "reference", "--precision", "w8", "-o", str(tmp_path / "o"), "--json"]
    done = CliRunner().invoke(compile_command, words)
    found = json.loads(done.stdout)
    assert found["schema"] == "edgewright.llm-compile/1"
    assert found["artifacts"][0]["state"] == "done"


@pytest.mark.parametrize("precision", ["fp32", "w4"])
@pytest.mark.parametrize("changes", [{}, {"tied": False}, {"family": "qwen2"}])
def test_the_graph_for_onnx_runtime_computes_the_same(
    tmp_path: Path, precision: str, changes: dict[str, object]
) -> None:
    """The file of ONNX Runtime GenAI in ONNX Runtime alone, without a past."""
    import onnxruntime

    model = pad_model(make_model(**changes), 16, 32)
    quantized = quantize_4bit(model, None, lambda text: None) if precision == "w4" else None
    write_genai(tmp_path, quantized or QuantizedModel(model, {}))
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    past = np.zeros((1, 2, 0, 16), np.float32)
    feeds = {one.name: past for one in session.get_inputs() if one.name.startswith("past")}
    ids = np.asarray([TOKENS], np.int64)
    logits = session.run(["logits"], {"input_ids": ids, "attention_mask": np.ones_like(ids), **feeds})[0]
    wanted = Reference(quantized.model if quantized else model).logits(TOKENS)
    np.testing.assert_allclose(np.asarray(logits)[0], wanted, atol=2e-4)


def test_a_gguf_source_without_a_known_architecture_is_named(tmp_path: Path) -> None:
    source = write_source(tmp_path)
    source.write_bytes(
        source.read_bytes().replace(
            b"\x05\x00\x00\x00\x00\x00\x00\x00llama", b"\x05\x00\x00\x00\x00\x00\x00\x00mamba", 1
        )
    )
    from edgewright.errors import ModelNotConvertible

    with pytest.raises(ModelNotConvertible, match="mamba"):
        read_gguf(source)
