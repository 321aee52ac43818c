"""`compile --custom-ops`: the documented folder, in ONNX Runtime and ncnn, and what must fail."""

import json
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgewright
from edgewright.cli.app import run
from edgewright.errors import ConfigError, ModelRejected
from edgewright.kernels.build import find_compiler
from edgewright.kernels.custom.description import read_operators
from edgewright.kernels.custom.shapes import compile_shape
from tests.paths import ROOT

pytestmark = pytest.mark.skipif(find_compiler() is None, reason="no C compiler is installed")
EXAMPLE = ROOT / "examples" / "custom_ops"
MORE = """
[[operator]]
name = "ScaleSplit"
domain = "other"
source = "scale_split.c"
function = "scale_split"
reference = "more.py:scale_split"
inputs = { x = "float32", scale = "float32" }
outputs = [{ shape = "x" }, { shape = ["x[0]", "x[1] // 2", "x[2] * x[3]", 1] }]
attributes = { by = 2 }
"""
KERNEL = """
#include "edgewright_operator.h"
EW_KERNEL(scale_split) {
    const int64_t *shape = inputs[0].shape, n = shape[2] * shape[3];
    const float *x = inputs[0].data, *s = inputs[1].data;
    float *y = outputs[0].data, *z = outputs[1].data;
    if (inputs[0].rank != 4 || ew_attribute(attributes, "by") != 3.0) return 1;
    for (int64_t i = 0; i < ew_count(inputs); i++) y[i] = x[i] * s[i / n % shape[1]];
    for (int64_t i = 0; i < ew_count(outputs + 1); i++) z[i] = x[i / n * 2 * n + i % n];
    return 0;
}
"""
REFERENCE = """
def scale_split(x, scale, by):
    assert by == 3 and isinstance(by, int)
    return x * scale.reshape(1, -1, 1, 1), x[:, ::2].reshape(x.shape[0], x.shape[1] // 2, -1, 1)
"""


def make_folder(folder: Path) -> Path:
    """The example with a second operator: two inputs, two outputs, a constant, an integer attribute."""
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    with (folder / "operators.toml").open("a") as file:
        file.write(MORE)
    (folder / "scale_split.c").write_text(KERNEL)
    (folder / "more.py").write_text(REFERENCE)
    return folder


def make_model(path: Path, nodes: list[Any], outputs: tuple[str, ...] = ("y",)) -> Path:
    onnx = pytest.importorskip("onnx")
    make, given = onnx.helper, np.random.default_rng(0)
    weights = {
        "w": given.standard_normal((8, 3, 3, 3)) * 0.3,
        "s": given.standard_normal(8),
        "m": given.standard_normal((8, 5)) * 0.3,
    }
    values = [onnx.numpy_helper.from_array(array.astype(np.float32), name) for name, array in weights.items()]
    used = {name for node in nodes for name in node.input}
    graph = make.make_graph(
        nodes,
        "g",
        [make.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 3, 8, 8])],
        [make.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in outputs],
        [value for value in values if value.name in used],
    )
    sets = [make.make_opsetid("", 17), make.make_opsetid("example", 1), make.make_opsetid("other", 1)]
    onnx.save(make.make_model(graph, opset_imports=sets, ir_version=9), path)
    return path


def make_nodes() -> list[Any]:
    make = pytest.importorskip("onnx").helper.make_node
    return [
        make("SoftShrink", ["x"], ["first"], name="first", domain="example", lambd=0.1),
        make("Conv", ["first", "w"], ["c"], name="conv", pads=[1] * 4),
        make("ScaleSplit", ["c", "s"], ["a", "z"], name="split", domain="other", by=3),
        make("Add", ["a", "c"], ["b"], name="add"),
        make("SoftShrink", ["b"], ["d"], name="default", domain="example"),
        make("GlobalAveragePool", ["d"], ["p"], name="pool"),
        make("Flatten", ["p"], ["f"], name="flat"),
        make("MatMul", ["f", "m"], ["y"], name="last"),
    ]


def make_small(folder: Path, name: str = "SoftShrink") -> Path:
    node = pytest.importorskip("onnx").helper.make_node(name, ["x"], ["y"], name="only", domain="example")
    return make_model(folder / f"{name}.onnx", [node])


def test_operators_run_in_both_runtimes_and_their_library_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime")
    runtimes = ["onnxruntime", *(["ncnn"] if has_ncnn() else [])]
    model = make_model(tmp_path / "model.onnx", make_nodes(), ("y", "z", "d"))  # a layer reads d too
    folder = make_folder(tmp_path / "ops")
    result = edgewright.compile(
        str(model), custom_ops=folder, runtime=runtimes, output=tmp_path / "out", progress=False
    )
    assert [one.state for one in result.rows] == ["ok"] * len(runtimes)
    x = np.random.default_rng(1).standard_normal((1, 3, 8, 8)).astype(np.float32)
    outputs = []
    for one in result.rows:
        assert one.numerics is not None and one.numerics.sqnr_db > 100
        path = Path(str(one.path))
        record = json.loads(path.with_name(f"{path.stem}.edgewright.json").read_text())
        named = json.loads(path.with_suffix(".operators.json").read_text())
        assert record["tools"]["custom-ops"] == named["sha256"]
        assert path.with_suffix(".operators.json").name in record["files"]
        assert named["reference"] == ""
        outputs.append(edgewright.invoke(path, inputs={"x": x}, progress=False).outputs)
    for made in outputs[1:]:
        assert made["z"].shape == (1, 4, 64, 1)
        assert all(np.allclose(made[name], outputs[0][name], atol=1e-4) for name in ("y", "z", "d"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "empty"))  # as on another machine
    for one in result.rows:
        with pytest.raises(ModelRejected, match=r"library of its custom operators.*example:SoftShrink"):
            edgewright.invoke(str(one.path), inputs={"x": x}, progress=False)


def has_ncnn() -> bool:
    return all(map(find_spec, ("ncnn", "pnnx")))


def test_a_wrong_kernel_fails_the_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnxruntime")
    folder = make_folder(tmp_path / "ops")
    source = folder / "soft_shrink.c"
    source.write_text(source.read_text().replace("x[i] + lambd", "x[i] - lambd"))
    small = make_small(tmp_path)
    runtimes = "onnxruntime,ncnn" if has_ncnn() else "onnxruntime"
    options = ["--custom-ops", str(folder), "--runtime", runtimes, "-o", str(tmp_path / "out"), "--json"]
    assert run(["compile", str(small), *options]) == 3
    made = json.loads(capsys.readouterr().out)["artifacts"]
    assert {one["state"] for one in made} == {"failed"} and not list((tmp_path / "out").iterdir())


def test_an_operator_without_a_folder_or_of_another_name_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime")
    other = make_small(tmp_path, "Other")
    compiling = ["compile", str(other), "--runtime", "onnxruntime", "-o", str(tmp_path / "out")]
    assert run(compiling) == 6
    error = capsys.readouterr().err
    assert "example:Other" in error and "--custom-ops FOLDER" in error
    assert run([*compiling, "--custom-ops", str(EXAMPLE)]) == 2
    error = capsys.readouterr().err
    assert "example:SoftShrink" in error and "example:Other" in error


@pytest.mark.parametrize(
    ("given", "why"),
    [({"lambd": 1}, "'lambd' is int"), ({"lambda": 0.5}, "'lambda' is not described"), ({"lambd": "a"}, "is str")],
)
def test_an_attribute_that_the_kernel_would_not_get_is_an_error(
    tmp_path: Path, given: dict[str, Any], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    node = pytest.importorskip("onnx").helper.make_node("SoftShrink", ["x"], ["y"], domain="example", **given)
    model = make_model(tmp_path / "m.onnx", [node])
    assert run(["compile", str(model), "--custom-ops", str(EXAMPLE), "--runtime", "onnxruntime"]) == 2
    assert why in capsys.readouterr().err


def test_without_a_compiler_the_exit_code_is_5(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("edgewright.kernels.custom.folder.find_compiler", lambda: None)
    small = make_small(tmp_path)
    assert run(["compile", str(small), "--custom-ops", str(EXAMPLE), "--runtime", "onnxruntime"]) == 5
    assert "no C compiler" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("name =", "title =", "unknown field"),
        ("[[operator]]", "[[operator]", "line 2"),
        ("soft_shrink.c", "../soft_shrink.c", "not a name of letters"),
        ("soft_shrink.c", "soft.shrink.c", "not a name of letters"),
        ("soft_shrink.c", "absent.c", "no file"),
        ("reference.py:", "numpy:", "not FILE.py:function"),
        ('"float32" }\n', '"float31" }\n', "float31"),
        ('shape = "x"', 'shape = "z"', "'z' is not an input"),
        ('shape = "x"', 'shape = ["x[0] ** 9"]', "is no size"),
        ("lambd =", "x =", "is an input and an attribute"),
        ("lambd = 0.5", "lambd = nan", "not finite"),
        ('function = "soft_shrink"', 'function = "a;b"', "not allowed"),
    ],
)
def test_a_bad_description_says_what_is_wrong(tmp_path: Path, old: str, new: str, why: str) -> None:
    folder = make_folder(tmp_path / "ops")
    path = folder / "operators.toml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(ConfigError) as caught:
        read_operators(folder)
    assert why in str(caught.value)


def test_a_folder_without_a_description_and_a_source_that_does_not_compile(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = make_small(tmp_path)
    for folder, why in ((tmp_path / "absent", "No such file"), (tmp_path, "no file operators.toml")):
        assert run(["compile", str(small), "--custom-ops", str(folder), "--runtime", "onnxruntime"]) == 2
        assert why in capsys.readouterr().err
    folder = make_folder(tmp_path / "ops")
    (folder / "soft_shrink.c").write_text("int f(void) { return }\n")
    assert run(["compile", str(small), "--custom-ops", str(folder), "--runtime", "onnxruntime"]) == 2
    assert "error" in capsys.readouterr().err


def test_sizes_become_steps_of_a_stack_machine() -> None:
    assert compile_shape("b", ["a", "b"]) == [-2]
    assert compile_shape(["b[1] * 2", 7], ["a", "b"]) == [2, 3, 1, 9, 0, 2, 4, 0, 1, 0, 7]
    for wrong in ("b[9]", "c[0]", "-1", "b", "b[0] / 2", "__import__('os')", "True", "(" * 500):
        with pytest.raises(ValueError, match=r"is no size|not an input"):
            compile_shape([wrong], ["a", "b"])
