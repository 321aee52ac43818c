"""Quantization-aware training: it begins as the quantized graph, and its result computes the same as the trained
module."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from edgewright.errors import ModelNotConvertible
from edgewright.quantization.job import QuantizationJob
from edgewright.quantization.recipe import Recipe, write_recipe
from edgewright.quantization.worker import run as run_quantizer
from edgewright.tasks.spec.task import Classification, Task, TensorInput
from edgewright.training.job import CachedDataset, Settings, TrainJob, TrainReport
from tests.quantization.mobile_files import SHAPE, make_feeds, make_mobile

torch: Any = pytest.importorskip("torch", reason="torch is not installed")
pytestmark = pytest.mark.filterwarnings("ignore")  # torch warns of its own insides

from edgewright.training.qat import build_float_module, build_qat_module  # noqa: E402

SHAPES: dict[str, tuple[int, ...]] = {"x": SHAPE}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def images() -> Any:
    return np.concatenate([one["x"] for one in make_feeds(400, 3)])


def write_float(folder: Path) -> Path:
    onnx.save(make_mobile(), str(folder / "float.onnx"))
    return folder / "float.onnx"


def quantize(folder: Path, precision: Any) -> Path:
    """The QDQ graph of the mobile network."""
    model = write_float(folder)
    files = {}
    for name, count in (("fit", 16), ("check", 16)):
        np.save(folder / f"{name}.npy", np.stack([one["x"] for one in make_feeds(count, 1)]))
        files[name] = {"x": str(folder / f"{name}.npy")}
    (folder / "memory").mkdir(exist_ok=True)
    job = QuantizationJob(
        model=str(model),
        fit=files["fit"],
        check=files["check"],
        recipe=write_recipe(Recipe(precision=precision, search=False)),
        aim_db=0,
        aim_flips=1,
        out=str(folder),
        memory=str(folder / "memory"),
    )
    run_quantizer(job, lambda word: None)
    return folder / "model.onnx"


def run_onnx(path: Path, images: Any) -> Any:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, {"x": one[None]})[0] for one in images])


def run_module(module: Any, images: Any) -> Any:
    with torch.no_grad():
        return module(x=torch.from_numpy(images))["y"].numpy()


def check_alike(module: Any, path: Path, images: Any) -> None:
    """But for a value in a thousand that falls on the other side of a rounding."""
    own, wanted = run_module(module, images), run_onnx(path, images)
    assert (own.argmax(1) == wanted.argmax(1)).mean() >= 0.99
    assert (np.abs(own - wanted) < 1e-4 * np.abs(wanted).max()).mean() > 0.97


@pytest.mark.parametrize("precision", ["w8a8", "w4a8", "w8a16", "w8"])
def test_it_begins_as_the_quantized_graph(tmp_path: Path, images: Any, precision: str) -> None:
    graph = quantize(tmp_path, precision)
    module = build_qat_module(graph, tmp_path / "float.onnx", SHAPES)
    check_alike(module, graph, images)
    module.write(tmp_path / "again.onnx")
    before, after = (onnx.load(tmp_path / name) for name in ("model.onnx", "again.onnx"))
    assert list(before.graph.node) == list(after.graph.node)
    for one, other in zip(before.graph.initializer, after.graph.initializer, strict=True):
        np.testing.assert_array_equal(numpy_helper.to_array(one), numpy_helper.to_array(other), one.name)


def test_weights_lean_to_what_rounding_took(tmp_path: Path) -> None:
    graph = quantize(tmp_path, "w4a8")
    leaning, upright = (build_qat_module(graph, path, SHAPES) for path in (tmp_path / "float.onnx", None))
    wanted = numpy_helper.to_array(next(one for one in make_mobile().graph.initializer if one.name == "point/w"))
    place = leaning.names.index("point/weights/dq")
    far, near = (np.abs(one.weights[place].detach().numpy() - wanted).mean() for one in (upright, leaning))
    assert near < 0.2 * far


def test_what_was_trained_is_written(tmp_path: Path, images: Any) -> None:
    graph = quantize(tmp_path, "w4a8")
    other = {"point/w": np.random.default_rng(9).standard_normal((8, 8, 1, 1)).astype(np.float32) / 3}
    onnx.save(make_mobile(changes=other), str(tmp_path / "other.onnx"))
    wanted = run_onnx(tmp_path / "other.onnx", images)
    module = build_qat_module(graph, tmp_path / "float.onnx", SHAPES)
    fitted, target = torch.from_numpy(images[:200]), torch.from_numpy(wanted[:200])
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-2)
    for _ in range(100):
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(module(x=fitted)["y"], target).backward()
        optimizer.step()
    module.write(tmp_path / "trained.onnx")
    check_alike(module, tmp_path / "trained.onnx", images)
    onnx.checker.check_model(str(tmp_path / "trained.onnx"))
    before, after = (
        np.square(run_onnx(path, images[200:]) - wanted[200:]).mean() for path in (graph, tmp_path / "trained.onnx")
    )
    assert after < 0.3 * before
    types = {one.name: one.data_type for one in onnx.load(tmp_path / "trained.onnx").graph.initializer}
    assert types["point/weights/q"] == onnx.TensorProto.INT4


def test_the_loop_trains_a_graph(tmp_path: Path, images: Any) -> None:
    pytest.importorskip("lightning_fabric", reason="lightning-fabric is not installed")
    from edgewright.training.loop.train import run_training

    graph = quantize(tmp_path, "w4a8")
    np.save(tmp_path / "x.npy", images)
    np.save(tmp_path / "labels.npy", run_onnx(tmp_path / "float.onnx", images).argmax(1))
    data = CachedDataset(
        inputs={"x": str(tmp_path / "x.npy")},
        labels=str(tmp_path / "labels.npy"),
        fit=tuple(range(300)),
        held_out=tuple(range(300, 400)),
    )
    task = Task(inputs=(TensorInput(name="x", shape=SHAPE),), output=Classification(name="y"))
    (tmp_path / "out").mkdir()
    run_training(
        TrainJob(
            title="trained",
            graph=str(graph),
            float_graph=str(tmp_path / "float.onnx"),
            shapes=SHAPES,
            task=msgspec.json.encode(task).decode(),
            data=data,
            settings=Settings(epochs=2, batch=32, lr=1e-3, optimizer="adamw", precision="fp32", threads=1),
            out=str(tmp_path / "out"),
            memory=str(tmp_path / "memory"),
        ),
        lambda word: None,
    )
    report = msgspec.json.decode((tmp_path / "out" / "report.json").read_bytes(), type=TrainReport)
    made = run_onnx(tmp_path / "out" / "model.onnx", images[300:]).argmax(1)
    share = (made == np.load(tmp_path / "labels.npy")[300:]).mean()
    assert report.metric == pytest.approx(share, abs=0.011)
    assert not np.array_equal(run_onnx(tmp_path / "out" / "model.onnx", images), run_onnx(graph, images))


def test_the_float_graph_trains_as_its_control(tmp_path: Path, images: Any) -> None:
    """The same weights in the same graph, without a rounding."""
    quantize(tmp_path, "w4a8")
    module = build_float_module(tmp_path / "float.onnx", SHAPES)
    np.testing.assert_allclose(run_module(module, images), run_onnx(tmp_path / "float.onnx", images), atol=1e-4)
    assert not module.rounders
    rounded = build_qat_module(tmp_path / "model.onnx", tmp_path / "float.onnx", SHAPES)
    assert [tuple(one.shape) for one in module.weights] == [tuple(one.shape) for one in rounded.weights]
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    module(x=torch.from_numpy(images[:64]))["y"].square().mean().backward()
    optimizer.step()
    module.write(tmp_path / "trained.onnx")
    made = run_onnx(tmp_path / "trained.onnx", images)
    np.testing.assert_allclose(run_module(module, images), made, atol=1e-4)
    assert np.abs(made - run_onnx(tmp_path / "float.onnx", images)).max() > 1e-3


def test_sizes_that_name_the_batch_take_more(tmp_path: Path, images: Any) -> None:
    model = make_mobile()
    (flat,) = (node for node in model.graph.node if node.op_type == "Flatten")
    flat.op_type = "Reshape"
    flat.input.append("size")
    model.graph.initializer.append(numpy_helper.from_array(np.array([1, 8], np.int64), "size"))
    rounded = [
        helper.make_node("QuantizeLinear", ["x", "x/scale", "x/zero"], ["x/q"], name="round"),
        helper.make_node("DequantizeLinear", ["x/q", "x/scale", "x/zero"], ["x/dq"], name="back"),
    ]
    model.graph.node[0].input[0] = "x/dq"
    kept = [*rounded, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(kept)
    numbers = {"x/scale": np.float32(0.03), "x/zero": np.uint8(128)}
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(one), name) for name, one in numbers.items())
    onnx.save(model, str(tmp_path / "m.onnx"))
    check_alike(build_qat_module(tmp_path / "m.onnx", None, SHAPES), tmp_path / "m.onnx", images)


def test_graphs_that_round_nothing_or_by_blocks_are_rejected(tmp_path: Path) -> None:
    with pytest.raises(ModelNotConvertible, match="is not quantized"):
        build_qat_module(write_float(tmp_path), None, SHAPES)
    model = onnx.load(quantize(tmp_path, "w4a8"))
    node = next(one for one in model.graph.node if one.name == "stem/weights/dequantize")
    node.attribute.append(helper.make_attribute("block_size", 4))
    onnx.save(model, str(tmp_path / "m.onnx"))
    with pytest.raises(ModelNotConvertible, match="block-wise"):
        build_qat_module(tmp_path / "m.onnx", None, SHAPES)
