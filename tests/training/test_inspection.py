"""Inspection of a module for a search: its graph by parameter names, and their importance."""

import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import onnxruntime
import pytest

from edgewright.errors import GateFailed, UsageError
from edgewright.pruning.graph_pruner import find_kept_indices, prune_graph
from edgewright.pruning.groups import find_groups
from edgewright.tasks.spec.task import Classification, ImageInput, Task
from edgewright.training.job import CachedDataset, InspectJob, ModuleSource, Settings
from tests.training.module_files import IMAGE, write_nets

torch: Any = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("safetensors", reason="safetensors is not installed")
pytestmark = pytest.mark.filterwarnings("ignore")  # torch warns of its own insides

from edgewright.training.distillation.student import make_student  # noqa: E402
from edgewright.training.inspection import run_inspect  # noqa: E402
from edgewright.training.slices import apply_slices, make_slices, read_slices  # noqa: E402
from edgewright.training.slicing.named import export_named  # noqa: E402
from edgewright.training.slicing.sliceable import compute_size_attributes, find_sliceable_groups, run_graph  # noqa: E402
from edgewright.training.source import load_module  # noqa: E402


@pytest.fixture
def nets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(sys, "path", list(sys.path))
    torch.set_num_threads(1)
    yield write_nets(tmp_path)
    sys.modules.pop("nets_of_the_test", None)


@pytest.mark.parametrize("factory", ["mobile", "vision"])
def test_the_graph_has_the_parameters_by_their_names(nets: str, tmp_path: Path, factory: str) -> None:
    job = InspectJob(module=ModuleSource(factory=f"{nets}:{factory}"), shapes=IMAGE, task="", out=str(tmp_path))
    words: list[Any] = []
    run_inspect(job, words.append)
    inspected = json.loads((tmp_path / "inspected.json").read_bytes())
    model = onnx.load(tmp_path / "named.onnx")
    onnx.checker.check_model(model, full_check=True)
    module = load_module(job.module, 0)
    stored = {one.name: tuple(one.dims) for one in model.graph.initializer}
    for name, value in module.named_parameters():
        assert stored[name] == tuple(value.shape) == tuple(inspected["shapes"][name])
    assert inspected["parameters"] == sum(one.numel() for one in module.parameters())
    assert inspected["macs"] > 0
    assert inspected["outputs"] == {"output": [1, 5]}
    assert words[-1].done == words[-1].of
    image = np.random.default_rng(0).standard_normal(IMAGE["image"]).astype(np.float32)
    session = onnxruntime.InferenceSession(str(tmp_path / "named.onnx"), providers=["CPUExecutionProvider"])
    with torch.no_grad():
        wanted = module.eval()(torch.from_numpy(image)).numpy()
    np.testing.assert_allclose(session.run(None, {"image": image})[0], wanted, rtol=1e-3, atol=1e-4)


def test_normalization_stays_apart_and_sizes_are_folded(nets: str, tmp_path: Path) -> None:
    module = load_module(ModuleSource(factory=f"{nets}:mobile"), 0)
    export_named(module, IMAGE, tmp_path / "m.onnx")
    assert module.training
    graph = onnx.load(tmp_path / "m.onnx").graph
    assert Counter(node.op_type for node in graph.node) == {
        "Conv": 13, "BatchNormalization": 13, "Relu": 9, "Add": 4, "ReduceMean": 1, "Gemm": 1,
    }  # fmt: skip
    assert all(len(node.input) == 2 for node in graph.node if node.op_type == "Conv")
    assert {"stem.0", "blocks.3.body.4", "head"} <= {node.name for node in graph.node}


def test_tied_weights_are_one_initializer(nets: str, tmp_path: Path) -> None:
    export_named(load_module(ModuleSource(factory=f"{nets}:tied"), 0), {"ids": (1, 3)}, tmp_path / "m.onnx")
    stored = [one.name for one in onnx.load(tmp_path / "m.onnx").graph.initializer]
    assert len({"embed.weight", "out.weight"} & set(stored)) == 1


def test_tied_groups_that_the_module_takes_are_found_by_trying(nets: str, tmp_path: Path) -> None:
    job = InspectJob(
        module=ModuleSource(factory=f"{nets}:vision"), shapes=IMAGE, task="", groups=True, out=str(tmp_path)
    )
    run_inspect(job, lambda word: None)
    inspected = json.loads((tmp_path / "inspected.json").read_bytes())
    assert len(inspected["sliceable"]) == 9
    assert inspected["refused"] == {}
    heads = [{"module": "layers.2.attention", "name": "heads", "each": 1}]
    assert inspected["numbers"]["layers.2.attention.qkv"] == heads


def test_groups_that_forward_counts_by_constants_are_rejected_in_words(nets: str, tmp_path: Path) -> None:
    job = InspectJob(
        module=ModuleSource(factory=f"{nets}:stubborn"), shapes=IMAGE, task="", groups=True, out=str(tmp_path)
    )
    run_inspect(job, lambda word: None)
    inspected = json.loads((tmp_path / "inspected.json").read_bytes())
    assert inspected["sliceable"] == ["one"]
    assert "in 'the module itself' (Stubborn), nets_of_the_test.py:" in inspected["refused"]["two"]


def test_a_cut_module_computes_what_the_cut_graph_does(nets: str, tmp_path: Path) -> None:
    module = load_module(ModuleSource(factory=f"{nets}:vision"), 0)
    export_named(module, IMAGE, tmp_path / "m.onnx")
    model = onnx.load(tmp_path / "m.onnx")
    groups = find_groups(model, IMAGE)
    sliceable = find_sliceable_groups(module, model, IMAGE, groups)
    made = np.random.default_rng(1)
    keep = {one.name: np.sort(made.choice(one.size, max(1, one.size // 2), replace=False)) for one in groups.groups}
    places, numbers = find_kept_indices(groups, keep), compute_size_attributes(sliceable, keep)
    source = ModuleSource(factory=f"{nets}:vision")
    apply_slices(module, make_slices(source, tmp_path, places, numbers=numbers, shapes=IMAGE))
    image = made.standard_normal(IMAGE["image"]).astype(np.float32)
    with torch.no_grad():
        own = module.eval()(torch.from_numpy(image)).numpy()
    (wanted,) = run_graph(prune_graph(model, groups, keep), {"image": image})
    np.testing.assert_allclose(own, wanted, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("factory", "times", "removed"), [("mobile", 3.0, 0), ("vision", 7.0, 2)])
def test_a_student_is_as_small_as_was_asked(
    nets: str, tmp_path: Path, factory: str, times: float, removed: int
) -> None:
    source = ModuleSource(factory=f"{nets}:{factory}")
    run_inspect(InspectJob(module=source, shapes=IMAGE, task="", student=times, out=str(tmp_path)), lambda word: None)
    inspected = json.loads((tmp_path / "inspected.json").read_bytes())
    slices = read_slices(tmp_path / "student.slices.json")
    fresh = ModuleSource(factory=source.factory, slices=str(tmp_path / "student.slices.json"), fresh=True)
    one, other = load_module(fresh, 1), load_module(fresh, 2)
    parameters = sum(weights.numel() for weights in one.parameters())
    assert inspected["student"] == parameters
    assert inspected["parameters"] / times * 0.75 < parameters <= inspected["parameters"] / times
    assert len(slices.removed) == removed
    assert not torch.equal(one.head.weight, other.head.weight)
    assert one(torch.zeros(3, *IMAGE["image"][1:])).shape == (3, 5)


def test_no_student_is_smaller_than_can_be(nets: str, tmp_path: Path) -> None:
    module = load_module(ModuleSource(factory=f"{nets}:stubborn"), 0)
    with pytest.raises(GateFailed, match="no student can be 4× smaller") as caught:
        make_student(module, ModuleSource(factory=f"{nets}:stubborn"), IMAGE, 4.0, tmp_path)
    assert "'two'" in caught.value.why
    with pytest.raises(UsageError):
        make_student(module, ModuleSource(factory=f"{nets}:stubborn"), IMAGE, 1.0, tmp_path)


def test_gradients_measure_importance(nets: str, tmp_path: Path) -> None:
    made = np.random.default_rng(3)
    np.save(tmp_path / "x.npy", made.standard_normal((20, *IMAGE["image"][1:])).astype(np.float32))
    np.save(tmp_path / "y.npy", made.integers(0, 5, 20))
    data = CachedDataset(
        inputs={"image": str(tmp_path / "x.npy")},
        labels=str(tmp_path / "y.npy"),
        fit=tuple(range(2, 20)),
        held_out=(0, 1),
    )
    task = Task(inputs=(ImageInput(name="image", size=(16, 16)),), output=Classification())
    job = InspectJob(
        module=ModuleSource(factory=f"{nets}:mobile"),
        shapes=IMAGE,
        task=msgspec.json.encode(task).decode(),
        data=data,
        settings=Settings(batch=8, threads=1),
        taylor=True,
        taylor_samples=12,
        out=str(tmp_path),
    )
    run_inspect(job, lambda word: None)
    scores = np.load(tmp_path / "importance.npz")
    module = load_module(job.module, 0).eval()
    assert set(scores) == {name for name, _ in module.named_parameters()}
    wanted = 0.0
    for rows in (slice(2, 10), slice(10, 14)):
        image, label = (torch.from_numpy(np.load(tmp_path / name)[rows]) for name in ("x.npy", "y.npy"))
        module.zero_grad()
        torch.nn.functional.cross_entropy(module(image), label).backward()
        wanted += (module.head.weight * module.head.weight.grad).square().detach().numpy()
    np.testing.assert_allclose(scores["head.weight"], wanted, rtol=1e-3, atol=1e-12)
    with pytest.raises(UsageError, match="labeled samples"):
        run_inspect(msgspec.structs.replace(job, data=None), lambda word: None)
