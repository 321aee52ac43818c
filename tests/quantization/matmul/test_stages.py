"""Quantized transformers: every form computes the same, and unsupported settings are rejected."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgewright.errors import InputError, ModelNotConvertible, UsageError
from edgewright.quantization.checkpoint import Checkpoint
from edgewright.quantization.executor import open_session
from edgewright.quantization.matmul.executor import compute_pairs_sqnr_db
from edgewright.quantization.matmul.stages import Precision, QuantizedTransformer, Rounding, quantize_matmuls
from edgewright.schema.arrays import Array
from tests.quantization.matmul.transformer_files import WIDE, WIDTH, make_feeds, make_transformer

SAMPLES, FEEDS = make_feeds(24, 1), make_feeds(8, 2)
SITES = ["left", "right", "down", "head"]


def quantize(
    precision: Precision, rounding: Rounding = "adaptive", block: int = 32, keep: tuple[str, ...] = ()
) -> QuantizedTransformer:
    samples = SAMPLES if rounding == "adaptive" else []
    return quantize_matmuls(make_transformer(), samples, precision=precision, rounding=rounding, block=block, keep=keep)


def run(model: Any, *, optimize: bool = False) -> list[list[Array]]:
    session = open_session(model.SerializeToString(), threads=1, optimize=optimize)
    return [session.run(None, feed) for feed in FEEDS]


def noise_db(exact: Any, given: Any, *, optimize: bool = False) -> list[float]:
    pairs = list(zip(run(exact), run(given, optimize=optimize), strict=True))
    return [compute_pairs_sqnr_db([(a[place], b[place]) for a, b in pairs]) for place in range(2)]


def constant(model: Any, name: str) -> Array:
    return next(numpy_helper.to_array(one) for one in model.graph.initializer if one.name == name)


def operators(model: Any) -> list[str]:
    return [node.op_type for node in model.graph.node]


@pytest.mark.parametrize(
    ("precision", "block", "least"),
    [("w8", 32, 35), ("w8a8-dynamic", 32, 33), ("w4", 32, 15), ("w4", 16, 15), ("w4a8", 64, 14)],
)
def test_every_form_is_close_to_the_float_model(precision: Precision, block: int, least: float) -> None:
    quantized = quantize(precision, block=block)
    for form in ("qdq", "onnxruntime"):
        onnx.checker.check_model(quantized.graphs[form]) if form == "qdq" else None
        for optimize in (False, True):
            assert min(noise_db(make_transformer(), quantized.graphs[form], optimize=optimize)) > least, form


def test_adaptive_rounding_beats_the_nearest() -> None:
    gains: tuple[tuple[Precision, float], ...] = (("w4", 2.0), ("w8", 0.5))
    for precision, gain in gains:
        nearest, adaptive = quantize(precision, "nearest"), quantize(precision)
        before = noise_db(make_transformer(), nearest.graphs["qdq"])
        after = noise_db(make_transformer(), adaptive.graphs["qdq"])
        assert np.mean(after) > np.mean(before) + gain


@pytest.mark.parametrize("precision", ["w8", "w4"])
def test_both_forms_hold_the_same_numbers(precision: Precision) -> None:
    quantized = quantize(precision)
    assert min(noise_db(quantized.graphs["qdq"], quantized.graphs["onnxruntime"])) > 90


def test_dynamic_form_has_the_integers_of_the_standard_form() -> None:
    graphs = quantize("w8a8-dynamic").graphs
    for name in ("left", "right", "down"):
        assert np.array_equal(
            constant(graphs["qdq"], f"{name}/stored"), constant(graphs["onnxruntime"], f"{name}/stored")
        )
    assert np.array_equal(constant(graphs["qdq"], "head/stored").T, constant(graphs["onnxruntime"], "head/stored"))
    # left and right read the same: it is rounded once.
    assert operators(graphs["onnxruntime"]).count("DynamicQuantizeLinear") == 3
    assert operators(graphs["onnxruntime"]).count("MatMulInteger") == 4


def test_onnx_runtime_fuses_the_dynamic_form(tmp_path: Any) -> None:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "fused.onnx")
    options.log_severity_level = 3
    model = quantize("w8a8-dynamic").graphs["onnxruntime"].SerializeToString()
    onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    fused = operators(onnx.load(tmp_path / "fused.onnx"))
    assert fused.count("DynamicQuantizeMatMul") + fused.count("MatMulIntegerToFloat") == 4
    assert "SkipLayerNormalization" not in fused


def test_int4_is_packed_two_to_a_byte_in_blocks_with_a_rest() -> None:
    quantized = quantize("w4")
    down = next(one for one in quantized.graphs["qdq"].graph.initializer if one.name == "down/stored")
    assert down.data_type == onnx.TensorProto.INT4 and len(down.raw_data) == 96 * WIDTH // 2
    scale = constant(quantized.graphs["qdq"], "down/scale")
    assert scale.shape == (3, WIDTH)  # 72 = 32 + 32 + 8, stored as 96
    assert not constant(quantized.graphs["qdq"], "down/stored")[WIDE:].any()
    packed = constant(quantized.graphs["onnxruntime"], "down/stored")
    assert packed.shape == (WIDTH, 3, 16) and packed.dtype == np.uint8
    numbers = constant(quantized.graphs["qdq"], "down/stored").astype(np.int8)
    assert packed[7, 0, 0] & 15 == numbers[0, 7] + 8 and packed[7, 0, 0] >> 4 == numbers[1, 7] + 8


def test_an_input_that_brings_most_of_the_noise_is_rounded_in_two_terms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgewright.quantization.matmul.executor.MIN_INPUTS", 1)
    high_precision, plain = quantize("w8a8-dynamic"), None
    assert high_precision.high_precision
    monkeypatch.setattr("edgewright.quantization.matmul.executor.MIN_INPUTS", 100)
    plain = quantize("w8a8-dynamic")
    assert plain.high_precision == []
    gained = np.array(noise_db(make_transformer(), high_precision.graphs["onnxruntime"], optimize=True))
    assert gained.mean() > np.mean(noise_db(make_transformer(), plain.graphs["onnxruntime"], optimize=True)) + 1


def test_the_same_settings_give_the_same_bytes() -> None:
    precisions: tuple[Precision, ...] = ("w8a8-dynamic", "w4")
    for precision in precisions:
        first, second = quantize(precision), quantize(precision)
        for form, graph in first.graphs.items():
            assert graph.SerializeToString(deterministic=True) == second.graphs[form].SerializeToString(
                deterministic=True
            )


def test_the_source_is_left_as_it_was() -> None:
    model = make_transformer()
    before = model.SerializeToString(deterministic=True)
    quantize_matmuls(model, SAMPLES, precision="w4")
    assert model.SerializeToString(deterministic=True) == before


def test_kept_nodes_stay_float() -> None:
    quantized = quantize("w8a8-dynamic", keep=("down", "embed"))
    assert [weight_node.node for weight_node in quantized.weight_nodes] == ["left", "right", "head"]
    assert quantized.tables == []
    for graph in quantized.graphs.values():
        assert constant(graph, "down").dtype == np.float32 and constant(graph, "words").dtype == np.float32


def test_the_report_covers_every_weight_node() -> None:
    quantized = quantize("w4")
    assert [weight_node.node for weight_node in quantized.weight_nodes] == SITES and quantized.tables == ["embed"]
    assert {weight_node.bits for weight_node in quantized.weight_nodes} == {4}
    assert [weight_node.block for weight_node in quantized.weight_nodes] == [32] * 4
    assert all(
        weight_node.sqnr_db is not None and 15 < weight_node.sqnr_db < 60 for weight_node in quantized.weight_nodes
    )
    assert 0.1 < quantized.bytes / quantized.float_bytes < 0.3
    assert [weight_node.sqnr_db for weight_node in quantize("w8", "nearest").weight_nodes] == [None] * 4
    assert [weight_node.block for weight_node in quantize("w8", "nearest").weight_nodes] == [0] * 4


def test_progress_is_reported_for_each_weight_node() -> None:
    lines: list[str] = []
    quantize_matmuls(make_transformer(), SAMPLES[:2], precision="w8", progress=lines.append)
    assert lines[0] == "rounding left (1 of 4)" and len(lines) == 4


def test_one_sample_is_enough_to_run() -> None:
    assert quantize_matmuls(make_transformer(), SAMPLES[:1], precision="w4").weight_nodes


def test_older_opsets_are_raised_where_int4_needs_it() -> None:
    for opset in (17, 18):
        quantized = quantize_matmuls(make_transformer(opset), SAMPLES[:2], precision="w4")
        assert quantized.graphs["qdq"].opset_import[0].version == 21
        assert min(noise_db(make_transformer(opset), quantized.graphs["qdq"])) > 12
        quantized = quantize_matmuls(make_transformer(opset), SAMPLES[:2], precision="w8")
        assert quantized.graphs["qdq"].opset_import[0].version == opset


def test_settings_that_are_not_known_are_rejected() -> None:
    with pytest.raises(UsageError, match="precision w2"):
        quantize("w2")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="block size 48"):
        quantize("w4", block=48)
    with pytest.raises(UsageError, match="rounding 'odd'"):
        quantize("w4", rounding="odd")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="unknown nodes to keep: nowhere: the model has no node"):
        quantize("w4", keep=("nowhere",))


def test_adaptive_rounding_wants_samples() -> None:
    with pytest.raises(InputError, match="no samples"):
        quantize_matmuls(make_transformer(), [], precision="w4")


def test_nothing_to_quantize_is_rejected() -> None:
    with pytest.raises(ModelNotConvertible, match="nothing to quantize"):
        quantize("w4", keep=tuple(SITES))


def test_a_quantized_model_is_rejected() -> None:
    done = quantize("w8", "nearest").graphs["qdq"]
    with pytest.raises(ModelNotConvertible, match="already quantized: it has DequantizeLinear"):
        quantize_matmuls(done, SAMPLES, precision="w8")


def test_weights_and_activations_that_are_not_finite_are_named() -> None:
    model = make_transformer()
    for name, error, words in (
        ("right", ModelNotConvertible, "right: weights right"),
        ("gain", InputError, "input of left"),
    ):
        broken = onnx.ModelProto()
        broken.CopyFrom(model)
        place = next(i for i, one in enumerate(broken.graph.initializer) if one.name == name)
        array = numpy_helper.to_array(model.graph.initializer[place]).copy()
        array.flat[0] = np.nan
        broken.graph.initializer[place].CopyFrom(numpy_helper.from_array(array, name))
        with pytest.raises(error, match=words):
            quantize_matmuls(broken, SAMPLES, precision="w4")


@pytest.mark.parametrize("precision", ["w8a8-dynamic", "w4"])
def test_an_interrupted_rounding_goes_on_where_it_was(tmp_path: Path, precision: Precision) -> None:
    """Whatever product it was stopped at, the bytes are those of one that was not."""

    class Stop(Exception):
        pass

    def pull(text: str) -> None:
        if text.startswith(f"rounding {SITES[stop]}"):
            raise Stop

    whole = quantize(precision)
    for stop in range(1, len(SITES)):
        store = Checkpoint(tmp_path / str(stop))
        with pytest.raises(Stop):
            quantize_matmuls(make_transformer(), SAMPLES, precision=precision, store=store, progress=pull)
        left = sorted((tmp_path / str(stop)).iterdir())
        assert len(left) == stop
        times = [path.stat().st_mtime_ns for path in left]
        again = quantize_matmuls(make_transformer(), SAMPLES, precision=precision, store=store)
        assert [path.stat().st_mtime_ns for path in left] == times
        assert [again.graphs[form].SerializeToString() for form in again.graphs] == [
            whole.graphs[form].SerializeToString() for form in whole.graphs
        ]
        assert again.weight_nodes == whole.weight_nodes
