"""QDQ graphs as ONNX Runtime's `quantize_static` makes them, operator by operator."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from tests.models.onnx_files import constant, node, value, weights, write_onnx
from tests.runtimes.litert.writer.compare import Compared, compare, count_partitions

SHAPE = [1, 3, 10, 10]
STEM = [node("Conv", ["x", "w"], ["c"], "stem", kernel_shape=[3, 3]), node("Relu", ["c"], ["r"], "relu")]


def run(
    folder: Path,
    nodes: list[Any],
    constants: list[Any],
    kind: str = "QUInt8",
    shape: Sequence[int] = SHAPE,
    **options: Any,
) -> Compared:
    path = write_onnx(folder / "m.onnx", nodes, [value("x", shape)], [value("y", None)], constants)
    random = np.random.default_rng(1)
    feeds = iter([{"x": random.uniform(-1, 1, shape).astype(np.float32)} for _ in range(3)])

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # ONNX Runtime asks for a subclass and ships no types
        def get_next(self) -> object:
            return next(feeds, None)

    quantize_static(
        path,
        folder / "q.onnx",
        Reader(),
        quant_format=QuantFormat.QDQ,
        activation_type=getattr(QuantType, kind),
        weight_type=QuantType.QInt8,
        **options,
    )
    return compare(folder / "q.onnx")


def check_in_int8(compared: Compared, *codes: str) -> None:
    """All that is listed stands between one QUANTIZE and one DEQUANTIZE."""
    assert compared.converted.operators == ("QUANTIZE", "CONV_2D", *codes, "DEQUANTIZE")
    assert compared.sqnr_db > 40


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize(("kernel", "codes"), [(4, ["TRANSPOSE_CONV"]), (3, ["TRANSPOSE_CONV", "SLICE"])])
def test_a_transposed_convolution(tmp_path: Path, kernel: int, codes: list[str], per_channel: bool) -> None:
    up = node("ConvTranspose", ["r", "v", "b"], ["y"], "up", kernel_shape=[kernel] * 2, strides=[2, 2], pads=[1] * 4)
    constants = [weights("w", 8, 3, 3, 3), weights("v", 8, 6, kernel, kernel, seed=1), weights("b", 6, seed=2)]
    compared = run(tmp_path, [*STEM, up], constants, per_channel=per_channel)
    check_in_int8(compared, *codes)
    assert count_partitions(compared.converted.data) == 1


def test_a_transposed_convolution_that_reaches_beyond_is_computed_in_floats(tmp_path: Path) -> None:
    up = node("ConvTranspose", ["r", "v", "b"], ["y"], "up", kernel_shape=[2, 2], strides=[2, 2],
              output_padding=[1, 1])  # fmt: skip
    constants = [weights("w", 8, 3, 3, 3), weights("v", 8, 6, 2, 2, seed=1), weights("b", 6, seed=2)]
    compared = run(tmp_path, [*STEM, up], constants)
    assert compared.sqnr_db > 40
    assert compared.codes["DEQUANTIZE"] >= 2


@pytest.mark.parametrize(
    ("attributes", "code"),
    [
        ({"mode": "linear"}, "RESIZE_BILINEAR"),
        (
            {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
            "RESIZE_NEAREST_NEIGHBOR",
        ),
    ],
)
def test_resizing(tmp_path: Path, attributes: dict[str, str], code: str) -> None:
    nodes = [*STEM, node("Resize", ["r", "", "twice"], ["y"], "up", **attributes)]
    check_in_int8(run(tmp_path, nodes, [weights("w", 8, 3, 3, 3), constant("twice", [1, 1, 2, 2])]), code)


def test_resizing_in_another_way_is_computed_in_floats(tmp_path: Path) -> None:
    nodes = [*STEM, node("Resize", ["r", "", "twice"], ["y"], "up", mode="cubic")]
    compared = run(tmp_path, nodes, [weights("w", 8, 3, 3, 3), constant("twice", [1, 1, 2, 2])])
    assert compared.codes["BATCH_MATMUL"] == 2
    assert compared.sqnr_db > 40


@pytest.mark.parametrize("symmetric", [True, False])
def test_activations_of_16_bits(tmp_path: Path, symmetric: bool) -> None:
    nodes = [
        *STEM,
        node("Conv", ["r", "v"], ["d"], "deep", kernel_shape=[3, 3], pads=[1, 1, 1, 1], group=8),
        node("Add", ["d", "r"], ["a"], "residual"),
        node("MaxPool", ["a"], ["m"], "largest", kernel_shape=[2, 2], strides=[2, 2], pads=[1, 1, 1, 1]),
        node("GlobalAveragePool", ["m"], ["p"], "average"),
        node("Flatten", ["p"], ["f"], "flatten"),
        node("Gemm", ["f", "g", "h"], ["y"], "layer"),
    ]
    constants = [weights("w", 8, 3, 3, 3), weights("v", 8, 1, 3, 3, seed=1), weights("g", 8, 5, seed=2)]
    compared = run(
        tmp_path,
        nodes,
        [*constants, weights("h", 5, seed=3)],
        "QInt16",
        extra_options={"ActivationSymmetric": symmetric},
    )
    assert compared.sqnr_db > 50  # over 60 with ONNX Runtime 1.31, 57 with 1.32
    assert compared.codes["TRANSPOSE"] == 0
    if symmetric:
        assert compared.codes["QUANTIZE"] == compared.codes["DEQUANTIZE"] == 1


def test_what_xnnpack_computes_only_in_floats_stays_in_its_partition(tmp_path: Path) -> None:
    nodes = [
        *STEM[:1],
        node("HardSwish", ["c"], ["s"], "swish"),
        node("GlobalAveragePool", ["s"], ["g"], "squeeze"),
        node("Conv", ["g", "e"], ["k"], "excite"),
        node("HardSigmoid", ["k"], ["h"], "gate", alpha=1 / 6),
        node("Mul", ["s", "h"], ["m"], "scale"),
        node("AveragePool", ["m"], ["p"], "average", kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", ["p", "v"], ["d"], "deep", kernel_shape=[3, 3]),
        node("Flatten", ["d"], ["f"], "flat"),
        node("Softmax", ["f"], ["y"], "shares"),
    ]
    constants = [weights("w", 8, 3, 3, 3), weights("e", 8, 8, 1, 1, seed=1), weights("v", 6, 8, 3, 3, seed=2)]
    types = ["Conv", "HardSwish", "GlobalAveragePool", "HardSigmoid", "Mul", "AveragePool", "Flatten", "Softmax"]
    compared = run(tmp_path, nodes, constants, op_types_to_quantize=types)
    assert count_partitions(compared.converted.data) == 1
    assert compared.sqnr_db > 25  # the softmax has steps of 1/255, and values below ten of them


FLAT = [1, 8, 24]


@pytest.mark.parametrize("kind", ["QUInt8", "QInt8"])
def test_one_dimensional_convolutions_run_in_int8_in_one_partition(tmp_path: Path, kind: str) -> None:
    nodes = [
        node("Conv", ["x", "w", "b"], ["c"], "first", kernel_shape=[5], pads=[2, 2]),
        node("Relu", ["c"], ["r"], "relu"),
        node("Conv", ["r", "v"], ["d"], "deep", kernel_shape=[3], pads=[1, 1], group=16),
        node("Add", ["d", "r"], ["a"], "residual"),
        node("Concat", ["a", "d"], ["j"], "join", axis=-1),
        node("MaxPool", ["j"], ["m"], "largest", kernel_shape=[2], strides=[2]),
        node("GlobalAveragePool", ["m"], ["p"], "average"),
        node("Flatten", ["p"], ["f"], "flatten"),
        node("Gemm", ["f", "g"], ["y"], "layer"),
    ]
    constants = [weights("w", 16, 8, 5), weights("b", 16, seed=3), weights("v", 16, 1, 3, seed=1)]
    compared = run(tmp_path, nodes, [*constants, weights("g", 16, 4, seed=2)], kind, shape=FLAT, per_channel=True)
    operators = compared.converted.operators
    assert operators[0] == "QUANTIZE" and operators[-1] == "DEQUANTIZE"
    assert compared.codes["DEQUANTIZE"] == 1 and compared.codes["TRANSPOSE"] == 0
    assert count_partitions(compared.converted.data) == 1
    assert compared.sqnr_db > 35


def test_a_value_of_three_axes_between_convolutions_stays_in_int8(tmp_path: Path) -> None:
    nodes = [
        node("Conv", ["x", "w"], ["c"], "first", kernel_shape=[3], pads=[1, 1]),
        node("Transpose", ["c"], ["t"], "turn", perm=[0, 2, 1]),
        node("Conv", ["t", "v"], ["d"], "across", kernel_shape=[3]),
        node("MatMul", ["d", "m"], ["y"], "product"),
    ]
    constants = [weights("w", 8, 8, 3), weights("v", 5, 24, 3, seed=1), weights("m", 6, 7, seed=2)]
    compared = run(tmp_path, nodes, constants, shape=FLAT)
    assert compared.codes["QUANTIZE"] == compared.codes["DEQUANTIZE"] == 1
    assert compared.sqnr_db > 35
