"""Slowdown causes: each is found with its share, and only if it exists."""

import pytest

from edgewright.bench.slowdown import CAUSES, LayerProfile, SlowdownCause, compute_integer_share, explain_slowdown
from edgewright.schema.run import Layer
from edgewright.schema.vocabulary import Precision

PLAIN = ("Conv", "Relu", "Gemm")


def layer(op: str, us: float = 10.0, backend: str = "XNNPACK", sources: tuple[str, ...] = ("n",)) -> Layer:
    return Layer(
        position=0,
        name=f"{op}#0",
        op=op,
        source_nodes=sources,
        unit="CPU",
        backend=backend,
        evidence="measured",
        start_us=None,
        median_us=us,
        p90_us=us,
    )


def find(
    *layers: Layer, precision: Precision = "fp32", partitions: int = 1, features: tuple[str, ...] = ()
) -> dict[str, SlowdownCause]:
    profile = LayerProfile(
        layers=layers, precision=precision, partitions=partitions, machine="x86_64", features=features
    )
    return {finding.code: finding for finding in explain_slowdown(profile)}


def test_a_sound_profile_has_no_cause() -> None:
    assert find(*map(layer, PLAIN)) == {}


@pytest.mark.parametrize(
    ("op", "code"),
    [
        ("Transpose", "transposes"),
        ("TRANSPOSE", "transposes"),
        ("Transpose (ND, X32)", "transposes"),
        ("Permute", "transposes"),
        ("ReorderInput", "reformats"),
        ("Reorder", "reformats"),
        ("Packing", "reformats"),
        ("ConvertTensor", "reformats"),
        ("Cast", "casts"),
        ("QuantizeLinear", "quantize-islands"),
        ("DEQUANTIZE", "quantize-islands"),
        ("Convert (NC, F32, QS8)", "quantize-islands"),
        ("Convert (NC, QS8, F32)", "quantize-islands"),
    ],
)
def test_operators_that_only_move_data(op: str, code: str) -> None:
    found = find(layer("Conv", 30), layer(op, 10))
    assert set(found) == {code}
    assert found[code].share == pytest.approx(0.25)
    assert found[code].layers == (f"{op}#0",)


def test_a_conversion_without_types_is_one_between_integers_and_floats_in_a_quantized_model() -> None:
    """LiteRT 2.3 names XNNPACK's conversion at an input or output `Convert (NC)`."""
    layers = [layer("Convolution (NHWC, QC8) IGEMM", 30), layer("Convert (NC)", 10)]
    assert "quantize-islands" in find(*layers, precision="w8a8")
    assert "casts" not in find(*layers, precision="w8a8")
    assert set(find(layer("Conv", 30), layer("Convert (NC)", 10))) == {"casts"}
    assert compute_integer_share(layers) == 1.0


@pytest.mark.parametrize("op", ["ConvTranspose", "TRANSPOSE_CONV", "Convolution (NHWC, F32) IGEMM", "Conv"])
def test_operators_that_only_sound_like_it(op: str) -> None:
    assert find(layer(op)) == {}


def test_those_without_a_source_node_are_called_inserted() -> None:
    text = find(layer("Conv"), layer("Transpose"), layer("Transpose", sources=()))["transposes"].text
    assert text.startswith("2 transposes, 1 of them without a node in the source")


def test_small_shares_are_not_reported() -> None:
    assert find(layer("Conv", 99), layer("Transpose", 1)) == {}


@pytest.mark.parametrize(
    "op", ["Conv", "FusedConv", "Convolution (NHWC, F32) IGEMM", "FusedGemm", "MatMul", "Gemm f32"]
)
def test_floats_in_a_quantized_model(op: str) -> None:
    features = ("avx512_vnni",)
    found = find(layer("QLinearConv", 30), layer(op, 10), precision="w8a8", features=features)
    assert set(found) == {"float-fallbacks"}
    assert found["float-fallbacks"].share == pytest.approx(0.25)
    assert "float-fallbacks" not in find(layer(op), features=features)


@pytest.mark.parametrize(
    "op", ["QLinearConv", "Convolution (NHWC, QC8) IGEMM", "MatMulInteger", "Fully Connected (NC, QS8, QC8W) GEMM"]
)
def test_integer_kernels_are_no_fallbacks(op: str) -> None:
    assert find(layer(op), precision="w8a8", features=("avx_vnni",)) == {}


def test_partitions_name_the_operators_in_between() -> None:
    found = find(layer("Conv", 90), layer("AVERAGE_POOL_2D", 10, backend="builtin"), partitions=3)
    assert found["partitions"].share == pytest.approx(0.1)
    assert "AVERAGE_POOL_2D" in found["partitions"].text
    assert "XNNPACK does not support" in found["partitions"].text


def test_missing_features_have_no_share_and_come_last() -> None:
    found = find(layer("QLinearConv"), layer("Transpose"), precision="w8a8", features=("avx2",))
    assert list(found) == ["transposes", "missing-features"]
    assert found["missing-features"].share is None


def test_unknown_features_are_not_called_missing() -> None:
    profile = LayerProfile(layers=(), precision="w8a8", partitions=0, machine="x86_64", features=None)
    assert explain_slowdown(profile) == ()


def test_the_costliest_comes_first() -> None:
    assert list(find(layer("Conv"), layer("Cast", 5), layer("Transpose", 9))) == ["transposes", "casts"]


def test_every_cause_has_a_word_of_its_own() -> None:
    assert all(code == code.lower() for code in CAUSES)
