"""Compile on real files: the whole matrix, what fails in it, and what is left behind."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest

from edgewright.devices.local import LocalDevice
from edgewright.errors import (
    EdgewrightError,
    GateFailed,
    InputError,
    ModelNotConvertible,
    ModelNotFound,
    OutputError,
    StoreFull,
)
from edgewright.flows.compile.cells import plan_cells
from edgewright.flows.compile.flow import CompileReport, compile_all
from edgewright.flows.compile.publication import publish_artifact
from edgewright.flows.workspace import Workspace
from edgewright.formats.artifacts import find_record, record_path
from edgewright.schema.plan import CompileCell, CompilePlan
from edgewright.store.store import Store, open_store
from tests.models.onnx_files import constant, node, value, weights, write_conv_net, write_onnx

LONG_S = 120.0  # of one step: never reached, however busy the machine


@pytest.fixture
def device() -> Iterator[LocalDevice]:
    device = LocalDevice()
    yield device
    device.close()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path / "home") as store:
        yield store


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_conv_net(tmp_path / "m.onnx", batch="n")


def cell(runtime: str, precision: str = "fp32", **options: str) -> CompileCell:
    return CompileCell(runtime=runtime, precision=precision, options=options)  # type: ignore[arg-type]


def compile_here(
    source: Path, out: Path, device: LocalDevice, store: Store, *cells: CompileCell, **fields: object
) -> tuple[CompileReport, EdgewrightError | None]:
    plan = CompilePlan(source=str(source), cells=cells or (cell("onnxruntime"),), samples=2, timeout_s=LONG_S)
    plan = msgspec.structs.replace(plan, **{"shapes": {"x": (1, 3, 8, 8)}, **fields})
    return compile_all(plan, out, Workspace(device, store, lambda text: None))


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def write_underflow(path: Path) -> Path:
    """Its constant 1e-9 is lost in half precision, and then multiplied up again."""
    nodes = [
        node("Conv", ["x", "w"], ["c"], "conv", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        node("Relu", ["c"], ["r"], "relu"),
        node("Mul", ["r", "small"], ["m"], "down"),
        node("Mul", ["m", "large"], ["d"], "up"),
        node("Sigmoid", ["d"], ["y"], "gate"),
    ]
    constants = [weights("w", 4, 3, 3, 3), constant("small", [1e-9]), constant("large", [1e9])]
    return write_onnx(path, nodes, [value("x", [1, 3, 8, 8])], [value("y", [1, 4, 8, 8])], constants)


def test_the_source_s_numbers_in_two_runtimes(model: Path, tmp_path: Path, device: LocalDevice, store: Store) -> None:
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
    out = tmp_path / "out"
    report, error = compile_here(model, out, device, store, cell("onnxruntime"), cell("litert"))
    assert error is None
    assert [one.state for one in report.artifacts] == ["ok", "ok"]
    for one in report.artifacts:
        assert one.numerics is not None
        assert one.numerics.sqnr_db > 100
        assert one.path is not None
        record = find_record(Path(one.path))
        assert record is not None
        assert record.source.signature.inputs[0].shape == (1, 3, 8, 8)
        assert record.source.signature.outputs[0].shape == (1, 5)
        assert record.numerics == one.numerics
        assert store.load(one.run_id or "").state == "done"
    assert names_in(out) == [
        "m-litert-fp32.edgewright.json",
        "m-litert-fp32.tflite",
        "m-onnxruntime-fp32.edgewright.json",
        "m-onnxruntime-fp32.onnx",
    ]
    litert = report.artifacts[1].io_map
    assert litert is not None
    assert litert.inputs[0].axes == (0, 2, 3, 1)


def test_the_same_again_is_cached(model: Path, tmp_path: Path, device: LocalDevice, store: Store) -> None:
    first, _ = compile_here(model, tmp_path / "out", device, store)
    again, _ = compile_here(model, tmp_path / "out", device, store)
    elsewhere, _ = compile_here(model, tmp_path / "other", device, store)
    assert [r.artifacts[0].cached for r in (first, again, elsewhere)] == [False, True, True]
    assert names_in(tmp_path / "out") == names_in(tmp_path / "other")
    assert elsewhere.artifacts[0].numerics == first.artifacts[0].numerics


@pytest.mark.parametrize("change", [{"samples": 3}, {"seed": 1}, {"shapes": {"x": (2, 3, 8, 8)}}, {"check": False}])
def test_another_plan_is_not_cached(
    model: Path, tmp_path: Path, device: LocalDevice, store: Store, change: dict[str, object]
) -> None:
    compile_here(model, tmp_path / "out", device, store)
    assert not compile_here(model, tmp_path / "out", device, store, **change)[0].artifacts[0].cached


def test_a_file_changed_in_the_folder_is_put_back(
    model: Path, tmp_path: Path, device: LocalDevice, store: Store
) -> None:
    report, _ = compile_here(model, tmp_path / "out", device, store)
    path = Path(report.artifacts[0].path or "")
    whole = path.read_bytes()
    path.write_bytes(b"broken")
    again, error = compile_here(model, tmp_path / "out", device, store)
    assert error is None
    assert again.artifacts[0].cached
    assert path.read_bytes() == whole


@pytest.mark.parametrize(
    ("how", "state", "code", "words"),
    [
        ("refuse", "unsupported", 6, "operator Pretend 'node' is not supported"),
        ("nothing", "unsupported", 6, "absent.pretend is missing"),
        ("run", "unsupported", 6, "RuntimeError: the pretend runtime raises, as requested by fail=run"),
        ("segfault", "failed", 1, "was ended by SIGSEGV while compiling"),
        ("oom", "failed", 1, "was ended by SIGKILL while compiling"),
        ("exit", "failed", 1, "exited with code 3 while compiling"),
        ("hang", "failed", 124, "no answer in 15 s while compiling"),
    ],
)
def test_one_failure_does_not_stop_the_others(
    model: Path, tmp_path: Path, device: LocalDevice, store: Store, how: str, state: str, code: int, words: str
) -> None:
    cells = (cell("pretend", fail=how), cell("onnxruntime"))
    limit = 15.0 if how == "hang" else LONG_S  # the other cell has it too, on a machine that may be busy
    report, error = compile_here(model, tmp_path / "out", device, store, *cells, timeout_s=limit)
    bad, good = report.artifacts
    assert (bad.state, good.state) == (state, "ok")
    assert words in bad.reason
    assert bad.try_this
    assert error is not None
    assert error.exit_code == code
    assert names_in(tmp_path / "out") == ["m-onnxruntime-fp32.edgewright.json", "m-onnxruntime-fp32.onnx"]
    assert store.load(bad.run_id or "").error == bad.reason


def test_output_on_stdout_is_ignored(model: Path, tmp_path: Path, device: LocalDevice, store: Store) -> None:
    report, error = compile_here(model, tmp_path / "out", device, store, cell("pretend", fail="chatter"), check=False)
    assert error is None
    assert report.artifacts[0].state == "ok"
    assert "--no-check" in report.artifacts[0].reason


def test_other_outputs_than_the_source_s_fail(model: Path, tmp_path: Path, device: LocalDevice, store: Store) -> None:
    report, error = compile_here(model, tmp_path / "out", device, store, cell("pretend"))
    assert report.artifacts[0].state == "failed"
    assert isinstance(error, GateFailed)
    assert "is missing" in report.artifacts[0].reason
    assert names_in(tmp_path / "out") == []


def test_wrong_numbers_fail_the_gate(tmp_path: Path, device: LocalDevice, store: Store) -> None:
    model = write_underflow(tmp_path / "m.onnx")
    cells = (cell("pretend", fail="refuse"), cell("onnxruntime", "fp16"), cell("onnxruntime"))
    report, error = compile_here(model, tmp_path / "out", device, store, *cells)
    assert isinstance(error, GateFailed)
    assert [one.state for one in report.artifacts] == ["unsupported", "failed", "ok"]
    numerics = report.artifacts[1].numerics
    assert numerics is not None
    assert numerics.sqnr_db < 30
    assert names_in(tmp_path / "out") == ["m-onnxruntime-fp32.edgewright.json", "m-onnxruntime-fp32.onnx"]


def test_bisection_names_the_layer(tmp_path: Path, device: LocalDevice, store: Store) -> None:
    model = write_underflow(tmp_path / "m.onnx")
    plan = CompilePlan(source=str(model), cells=(cell("onnxruntime", "fp16"),), samples=2)
    report, _ = compile_all(plan, tmp_path / "out", Workspace(device, store, lambda text: None), bisect=True)
    culprit = report.artifacts[0].culprit
    assert culprit is not None
    assert (culprit.node, culprit.op) == ("down", "Mul")
    assert culprit.sqnr_db < 30 < (culprit.before_db or 0)


def test_users_inputs_are_what_is_compared_on(model: Path, tmp_path: Path, device: LocalDevice, store: Store) -> None:
    np.savez(tmp_path / "x.npz", x=np.ones((1, 3, 8, 8), np.float32))
    report, _ = compile_here(model, tmp_path / "out", device, store, inputs=str(tmp_path / "x.npz"))
    numerics = report.artifacts[0].numerics
    assert numerics is not None
    assert (numerics.samples, numerics.seed) == (1, None)


# Bad sources


def test_a_free_batch_is_one(model: Path, tmp_path: Path, device: LocalDevice, store: Store) -> None:
    report, error = compile_here(model, tmp_path / "out", device, store, shapes={}, check=False)
    assert error is None
    assert report.artifacts[0].shapes == {"x": (1, 3, 8, 8)}
    assert "the free batch of input 'x' is 1; --shape x=SIZES sets another" in report.artifacts[0].notes


def test_other_free_shapes_are_asked_for(model: Path, tmp_path: Path, device: LocalDevice, store: Store) -> None:
    relu = onnx.helper.make_node("Relu", ["x"], ["y"])
    free = write_onnx(tmp_path / "free.onnx", [relu], [value("x", ["n", "w"])], [value("y", ["n", "w"])])
    with pytest.raises(InputError, match="dynamic dimensions") as caught:
        compile_here(free, tmp_path / "out", device, store, shapes={})
    assert caught.value.try_this.endswith("--shape x=1,128")
    with pytest.raises(InputError, match="no such input"):
        compile_here(model, tmp_path / "out", device, store, shapes={"unknown": (1,)})
    assert names_in(tmp_path / "out") == []


def test_no_such_source(tmp_path: Path, device: LocalDevice, store: Store) -> None:
    with pytest.raises(ModelNotFound):
        compile_here(tmp_path / "absent.onnx", tmp_path / "out", device, store)
    with pytest.raises(ModelNotFound):
        compile_here(tmp_path / "absent.py:build", tmp_path / "out", device, store)


def test_an_unknown_domain(tmp_path: Path, device: LocalDevice, store: Store) -> None:
    unknown = onnx.helper.make_node("Mystery", ["x"], ["y"], name="odd", domain="com.example")
    path = write_onnx(tmp_path / "m.onnx", [unknown], [value("x", [1])], [value("y", [1])])
    with pytest.raises(EdgewrightError) as caught:
        compile_here(path, tmp_path / "out", device, store, shapes={})
    assert caught.value.exit_code == 6
    assert "Mystery" in str(caught.value)


def test_the_folder_cannot_be_made(model: Path, tmp_path: Path, device: LocalDevice, store: Store) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError):
        compile_here(model, tmp_path / "file" / "out", device, store)


def test_a_killed_compile_leaves_nothing_under_a_final_name(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-P", "-m", "edgewright", "compile", str(model), "--shape", "x=1,3,8,8"]
    command += ["--runtime", "pretend", "-p", "fail=hang", "-o", str(out)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if "compiling" in line:
            break
    assert any(name.startswith(".edgewright-") for name in names_in(out))
    process.kill()
    process.stderr.close()
    process.wait()
    assert not [name for name in names_in(out) if not name.startswith(".edgewright-")]
    done = subprocess.run([*command[:-6], "--runtime", "onnxruntime", "-o", str(out)], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert names_in(out) == ["m-onnxruntime-fp32.edgewright.json", "m-onnxruntime-fp32.onnx"]


def test_a_full_disk_half_way_leaves_the_old_artifact(
    model: Path, tmp_path: Path, device: LocalDevice, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, made = tmp_path / "out", tmp_path / "made"
    report, _ = compile_here(model, out, device, store)
    record = find_record(Path(report.artifacts[0].path or ""))
    assert record is not None
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    made.mkdir()
    (made / record.main).write_bytes(b"another network")

    def full(record: object, folder: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("edgewright.flows.compile.publication.write_record", full)
    with pytest.raises(OutputError):
        publish_artifact(record, made, out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


# Cells


def test_cells_are_every_runtime_in_every_precision() -> None:
    cells = plan_cells(["ort", "onnxruntime", "tflite"], ["fp32", "FP16", "fp32"], {"litert": {"io": "source"}}, "fp32")
    assert [(one.runtime, one.precision) for one in cells] == [
        ("onnxruntime", "fp32"),
        ("onnxruntime", "fp16"),
        ("litert", "fp32"),
        ("litert", "fp16"),
    ]
    assert cells[2].options == {"io": "source"}


def test_a_quantized_model_keeps_its_precision() -> None:
    assert [one.precision for one in plan_cells(["ort"], [], {}, "w8a8")] == ["w8a8"]
    assert [one.precision for one in plan_cells(["ort"], ["int8"], {}, "w8a8")] == ["w8a8"]
    with pytest.raises(EdgewrightError, match="fp16 is not supported"):
        plan_cells(["ort"], ["fp16"], {}, "w8a8")
    with pytest.raises(EdgewrightError, match="w8a8 is not supported"):
        plan_cells(["ort"], ["w8a8"], {}, "fp32")


def test_a_precision_that_a_runtime_lacks(model: Path, tmp_path: Path, device: LocalDevice, store: Store) -> None:
    report, error = compile_here(model, tmp_path / "out", device, store, cell("pretend", "fp16"))
    assert report.artifacts[0].state == "unsupported"
    assert isinstance(error, ModelNotConvertible)


def test_a_rejection_names_the_converter_that_could_be_set_up(
    tmp_path: Path, device: LocalDevice, store: Store
) -> None:
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
    grid = [node("GridSample", ["x", "g"], ["y"], "grid")]
    inputs = [value("x", [1, 3, 8, 8]), value("g", [1, 4, 4, 2])]
    path = write_onnx(tmp_path / "m.onnx", grid, inputs, [value("y", [1, 3, 4, 4])])
    report, error = compile_here(path, tmp_path / "out", device, store, cell("litert"), shapes={})
    assert isinstance(error, ModelNotConvertible)
    assert "GridSample 'grid'" in report.artifacts[0].reason
    assert "edgewright runtimes setup onnx2tf" in report.artifacts[0].try_this


# Reported by users


def test_folders_of_others_stay(model: Path, tmp_path: Path, device: LocalDevice, store: Store) -> None:
    out = tmp_path / "out"
    names = (".edgewright-notes", ".edgewright-99999999999999999999999-x", ".edgewright-compile-abcdefgh")
    for name in names:
        (out / name).mkdir(parents=True)
    assert compile_here(model, out, device, store)[1] is None
    assert all((out / name).is_dir() for name in names)


def test_equal_bytes_under_another_name_make_an_artifact_of_that_name(
    model: Path, tmp_path: Path, device: LocalDevice, store: Store
) -> None:
    compile_here(model, tmp_path / "out", device, store)
    other = tmp_path / "other.onnx"
    other.write_bytes(model.read_bytes())
    report, _ = compile_here(other, tmp_path / "out", device, store)
    assert Path(report.artifacts[0].path or "").name == "other-onnxruntime-fp32.onnx"
    assert not report.artifacts[0].cached


def test_figures_of_a_changed_record_are_not_believed(
    model: Path, tmp_path: Path, device: LocalDevice, store: Store
) -> None:
    report, _ = compile_here(model, tmp_path / "out", device, store)
    path = record_path(Path(report.artifacts[0].path or ""))
    path.write_text(path.read_text().replace('"sqnr_db": 200.0', '"sqnr_db": 777.0'))
    again, _ = compile_here(model, tmp_path / "out", device, store)
    assert again.artifacts[0].numerics == report.artifacts[0].numerics
    assert "777" not in path.read_text()


def test_a_blob_that_is_gone_is_made_again_and_leaves_nothing(
    model: Path, tmp_path: Path, device: LocalDevice, store: Store
) -> None:
    compile_here(model, tmp_path / "out", device, store)
    for blob in (tmp_path / "home" / "blobs").rglob("*"):
        if blob.is_file() and blob.stat().st_size > 300 and blob.read_bytes()[:1] == b"\x08":
            blob.unlink()
    report, error = compile_here(model, tmp_path / "new", device, store)
    assert error is None
    assert not report.artifacts[0].cached
    assert len(names_in(tmp_path / "new")) == 2


def test_a_source_of_nothing_but_nan_proves_nothing(tmp_path: Path, device: LocalDevice, store: Store) -> None:
    nodes = [node("Mul", ["x", "x"], ["q"], "q"), node("Neg", ["q"], ["n"], "n"), node("Log", ["n"], ["y"], "log")]
    path = write_onnx(tmp_path / "m.onnx", nodes, [value("x", [3])], [value("y", [3])])
    with pytest.raises(InputError, match="only NaN and infinite"):
        compile_here(path, tmp_path / "out", device, store, shapes={})


def test_a_model_without_inputs(tmp_path: Path, device: LocalDevice, store: Store) -> None:
    path = write_onnx(
        tmp_path / "m.onnx", [node("Neg", ["k"], ["y"], "n")], [], [value("y", [2])], [constant("k", [1, 2])]
    )
    report, error = compile_here(path, tmp_path / "out", device, store, shapes={})
    assert error is None
    assert report.artifacts[0].numerics is not None


def test_a_full_record_of_runs_costs_no_artifact(
    model: Path, tmp_path: Path, device: LocalDevice, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*words: object, **named: object) -> None:
        raise StoreFull("no space is left", "the record is full")

    monkeypatch.setattr(type(store), "begin", full)
    report, error = compile_here(
        model, tmp_path / "out", device, store, cell("onnxruntime"), cell("onnxruntime", "fp16")
    )
    assert isinstance(error, StoreFull)
    assert [one.state for one in report.artifacts] == ["ok", "ok"]
    assert "could not be recorded" in report.artifacts[0].notes[-1]


def test_runs_go_by_the_source_s_own_name(model: Path, tmp_path: Path, device: LocalDevice, store: Store) -> None:
    report, _ = compile_here(model, tmp_path / "out", device, store)
    run = store.load(report.artifacts[0].run_id or "")
    assert run.model is not None
    assert (run.model.name, run.model.sha256) == ("m.onnx", report.source_sha256)


def test_a_very_long_name(tmp_path: Path, device: LocalDevice, store: Store) -> None:
    report, error = compile_here(write_conv_net(tmp_path / f"{'n' * 240}.onnx"), tmp_path / "out", device, store)
    assert error is None
    assert len(Path(report.artifacts[0].path or "").name) < 120


@pytest.mark.parametrize(
    "fields", [{"seed": -5}, {"timeout_s": -1.0}, {"timeout_s": float("nan")}, {"weights": "w.pt"}]
)
def test_numbers_and_words_that_cannot_be(
    model: Path, tmp_path: Path, device: LocalDevice, store: Store, fields: dict[str, object]
) -> None:
    with pytest.raises(EdgewrightError) as caught:
        compile_here(model, tmp_path / "out", device, store, **fields)
    assert caught.value.exit_code == 2


def test_a_full_disk_is_no_failed_conversion(tiny_disk: Path, model: Path, device: LocalDevice, store: Store) -> None:
    (tiny_disk / "filler").write_bytes(bytes(56 << 10))
    report, error = compile_here(model, tiny_disk / "out", device, store)
    assert isinstance(error, OutputError)
    assert "free some space" in error.try_this
    assert {one.state for one in report.artifacts} == {"failed"}
    assert store.list_runs() == []
    assert sorted(path.name for path in tiny_disk.rglob("*")) == ["filler", "out"]


def write_dead_branch(path: Path) -> Path:
    """x float32[n,m]: its second branch is valid for m = 1 only, and not run if `sr` is 16000."""

    def branch(nodes: list[onnx.NodeProto], end: str, *constants: onnx.TensorProto) -> onnx.GraphProto:
        return onnx.helper.make_graph(nodes, "branch", [], [value(end, ["n", 4])], constants)

    axes = constant("axes", [1], np.int64)
    narrow = [node("Squeeze", ["x", "axes"], ["s"]), node("Unsqueeze", ["s", "axes"], ["u"])]
    nodes = [
        node("Equal", ["sr", "k16"], ["c"], "is16k"),
        node(
            "If", ["c"], ["y"], "if",
            then_branch=branch([node("MatMul", ["x", "w"], ["a"], "wide")], "a", weights("w", 24, 4)),
            else_branch=branch(
                [*narrow, node("MatMul", ["u", "w"], ["b"], "narrow")], "b", weights("w", 1, 4), axes
            ),
        ),
    ]  # fmt: skip
    inputs = [value("x", ["n", "m"]), value("sr", [], "INT64")]
    return write_onnx(path, nodes, inputs, [value("y", ["n", 4])], [constant("k16", 16000, np.int64)])


def test_a_fixed_input_is_no_input_of_the_artifact(device: LocalDevice, store: Store, tmp_path: Path) -> None:
    source = write_dead_branch(tmp_path / "m.onnx")
    cells = cell("onnxruntime"), cell("litert")
    report, error = compile_here(
        source, tmp_path / "out", device, store, *cells, shapes={"x": (1, 24)}, fixed={"sr": (16000,)}
    )
    assert error is None
    assert [one.state for one in report.artifacts] == ["ok", "ok"]
    assert all(one.numerics and one.numerics.sqnr_db > 100 for one in report.artifacts)
    record = find_record(Path(str(report.artifacts[0].path)))
    assert record
    assert [spec.name for spec in record.source.signature.inputs] == ["x"]
    assert "input 'sr' is the constant 16000" in record.notes


def test_the_reference_runs_the_file_with_free_sizes(device: LocalDevice, store: Store, tmp_path: Path) -> None:
    source, inputs = write_dead_branch(tmp_path / "m.onnx"), tmp_path / "in.npz"
    np.savez(inputs, x=np.ones((1, 24), np.float32), sr=np.int64(16000))
    report, _ = compile_here(source, tmp_path / "out", device, store, shapes={"x": (1, 24)}, inputs=str(inputs))
    assert report.artifacts[0].state == "unsupported"  # by the artifact, whose sizes are fixed
    assert "--fix sr=VALUE" in report.artifacts[0].try_this


def test_other_sizes_than_those_of_the_file(device: LocalDevice, store: Store, tmp_path: Path) -> None:
    source = write_conv_net(tmp_path / "m.onnx", batch=10)
    report, error = compile_here(source, tmp_path / "out", device, store, shapes={"x": (1, 3, 12, 12)})
    assert error is None
    assert report.artifacts[0].numerics
    assert report.artifacts[0].numerics.sqnr_db > 100
    assert "the reference is the source file with these sizes" in report.artifacts[0].notes[0]
    with pytest.raises(InputError, match="does not run with these sizes"):
        compile_here(source, tmp_path / "out", device, store, shapes={"x": (1, 4, 8, 8)})
