"""A session of ONNX Runtime: all kinds of tensors, options, and rejected models."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as library
import pytest

from edgewright.formats.onnx.reader import OnnxFile
from edgewright.runtimes import onnxruntime
from edgewright.runtimes.contract import Mismatch, Rejected
from edgewright.runtimes.onnxruntime.session import OnnxSession, choose_provider, make_session_options
from edgewright.runtimes.wire import SessionRequest
from tests.contracts.runtime_contract import Feeds, RuntimeCase, RuntimeContract, assert_same
from tests.models.onnx_files import (
    conv,
    node,
    normal_feed,
    value,
    weights,
    write_branches,
    write_control_flow,
    write_conv_net,
    write_external,
    write_identity,
    write_many_outputs,
    write_named,
    write_no_input,
    write_onnx,
    write_qdq_net,
    write_residual_net,
    write_sequence,
)
from tests.paths import ROOT

Writer = Callable[[Path], Path]
NUMBERS = ["float16", "float32", "float64", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"]
TENSOR_PROTO = {"float16": "FLOAT16", "float32": "FLOAT", "float64": "DOUBLE"}


def compute(model: Path) -> Callable[[Feeds], Feeds]:
    """The library alone, as its own documentation calls it, on one thread as the session does."""

    def run(feeds: Feeds) -> Feeds:
        options = library.SessionOptions()
        options.intra_op_num_threads = 1
        session = library.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(None, dict(feeds)), strict=True))

    return run


class TestOnnxruntime(RuntimeContract):
    @pytest.fixture(
        params=[
            (write_conv_net, {"x": normal_feed(1, 3, 8, 8)}),
            (write_residual_net, {"x": normal_feed(1, 16, 8, 8)}),
            (write_qdq_net, {"x": normal_feed(1, 8, 8, 8)}),
            (write_branches, {"x": normal_feed(2, 4)}),
            (write_control_flow, {"x": normal_feed(2, 4)}),
            (write_many_outputs, {"ids": np.array([2, 0, 1]), "mask": np.array([True, True, False])}),
        ],
        ids=["conv", "residual", "qdq", "branches", "control_flow", "many_outputs"],
    )
    def case(self, request: pytest.FixtureRequest, tmp_path: Path) -> RuntimeCase:
        write, feeds = request.param
        model, bad = write(tmp_path / "m.onnx"), tmp_path / "bad.onnx"
        bad.write_bytes(model.read_bytes()[:-20])
        graph = OnnxFile(model).nodes()
        return RuntimeCase("onnxruntime", model, feeds, bad, compute=compute(model), graph=graph)


def open_model(model: Path, **options: str) -> OnnxSession:
    wish = {name.replace("_", "-"): text for name, text in options.items()}
    return onnxruntime.open_session(SessionRequest(model=str(model), options=wish))


def infer(model: Path, feeds: Feeds, **options: str) -> dict[str, Any]:
    session = open_model(model, **options)
    session.bind(feeds)
    session.run()
    return session.fetch()


@pytest.mark.parametrize("dtype", NUMBERS)
def test_every_number_type_goes_through(dtype: str, tmp_path: Path) -> None:
    model = write_identity(tmp_path / "m.onnx", TENSOR_PROTO.get(dtype, dtype.upper()))
    array = np.array([1, 100], dtype)
    assert_same(infer(model, {"x": array}), {"y": array})


def test_booleans_go_through(tmp_path: Path) -> None:
    array = np.array([True, False])
    assert_same(infer(write_identity(tmp_path / "m.onnx", "BOOL"), {"x": array}), {"y": array})


def test_text_goes_through(tmp_path: Path) -> None:
    model = write_identity(tmp_path / "m.onnx", "STRING")
    session = open_model(model)
    assert [spec.dtype for spec in (*session.signature.inputs, *session.signature.outputs)] == ["str", "str"]
    for words in (["a", "größe\n"], ["", "日本"]):
        session.bind({"x": np.array(words)})
        session.run()
        fetched = session.fetch()["y"]
        assert fetched.tolist() == words
        assert fetched.dtype.kind == "U"


def test_numbers_are_no_text(tmp_path: Path) -> None:
    with pytest.raises(Mismatch, match="is str, but the value given is float32"):
        infer(write_identity(tmp_path / "m.onnx", "STRING"), {"x": np.ones(2, np.float32)})


@pytest.mark.parametrize(("kind", "name"), [("BFLOAT16", "bfloat16"), ("FLOAT8E4M3FN", "float8e4m3fn")])
def test_a_type_that_numpy_lacks_is_a_mismatch(kind: str, name: str, tmp_path: Path) -> None:
    """Such an array is raw bytes once it has been in an .npz."""
    with pytest.raises(Mismatch, match=f"is {name}, but the value given is void"):
        infer(write_identity(tmp_path / "m.onnx", kind), {"x": np.zeros(2, "V2")})


def test_an_array_that_onnxruntime_cannot_take_is_rejected(tmp_path: Path) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    with pytest.raises(Rejected, match="input 'x' of type bfloat16"):
        infer(write_identity(tmp_path / "m.onnx", "BFLOAT16"), {"x": np.zeros(2, ml_dtypes.bfloat16)})


@pytest.mark.parametrize("kind", ["INT4", "UINT4", "COMPLEX64"])
def test_a_type_that_no_kernel_takes_is_rejected(kind: str, tmp_path: Path) -> None:
    with pytest.raises(Rejected, match=r"\S"):
        open_model(write_identity(tmp_path / "m.onnx", kind))


def test_a_scalar_stays_a_scalar(tmp_path: Path) -> None:
    outputs = infer(write_identity(tmp_path / "m.onnx", "FLOAT", ()), {"x": np.array(3, np.float32)})
    assert outputs["y"].shape == ()


def test_a_tensor_of_no_elements_goes_through(tmp_path: Path) -> None:
    outputs = infer(write_identity(tmp_path / "m.onnx", "FLOAT", (0, 4)), {"x": np.zeros((0, 4), np.float32)})
    assert outputs["y"].shape == (0, 4)


def test_a_model_without_inputs_runs(tmp_path: Path) -> None:
    assert infer(write_no_input(tmp_path / "m.onnx"), {})["y"].tolist() == [1.0, 2.0]


def test_sequences_are_rejected_by_name(tmp_path: Path) -> None:
    with pytest.raises(Rejected, match=r"'y' is a seq\(tensor\(float\)\)"):
        open_model(write_sequence(tmp_path / "m.onnx"))


@pytest.mark.parametrize("name", ["a b", "größe", "two\nlines", "file", "x.npy", "a/b:0", "%s{}", "x" * 300])
def test_any_name_will_do(name: str, tmp_path: Path) -> None:
    outputs = infer(write_named(tmp_path / "m.onnx", name, f"{name}!"), {name: np.ones(2, np.float32)})
    assert outputs[f"{name}!"].tolist() == [-1.0, -1.0]


def test_free_sizes_take_what_they_are_given(tmp_path: Path) -> None:
    session = open_model(write_conv_net(tmp_path / "m.onnx", batch="n"))
    assert session.signature.inputs[0].shape == ("n", 3, 8, 8)
    for batch in (1, 5, 2):
        session.bind({"x": normal_feed(batch, 3, 8, 8)})
        session.run()
        assert session.fetch()["y"].shape == (batch, 5)


def test_sizes_of_the_request_fix_the_free_ones(tmp_path: Path) -> None:
    model = write_conv_net(tmp_path / "m.onnx", batch="n")
    session = onnxruntime.open_session(SessionRequest(model=str(model), shapes={"x": (2, 3, 8, 8)}))
    assert session.signature.inputs[0].shape == (2, 3, 8, 8)
    with pytest.raises(Mismatch):
        session.bind({"x": normal_feed(1, 3, 8, 8)})


def test_outputs_whose_size_follows_the_values(tmp_path: Path) -> None:
    session = open_model(write_many_outputs(tmp_path / "m.onnx"))
    for mask in ([True, True, True], [False, False, False], [False, True, False]):
        session.bind({"ids": np.array([0, 1, 2]), "mask": np.array(mask)})
        session.run()
        outputs = session.fetch()
        assert outputs["kept"].tolist() == [i for i in range(3) if mask[i]]
        assert outputs["count"].tolist() == sum(mask)


def test_arrays_that_nobody_else_holds_stay_bound(tmp_path: Path) -> None:
    """The library reads a bound array where it lies, so the session must keep its own copy alive."""
    model = write_conv_net(tmp_path / "m.onnx")
    array = normal_feed(1, 3, 8, 8)
    session = open_model(model)
    session.bind({"x": np.asfortranarray(array)})
    rubbish = [np.full((1, 3, 8, 8), 1e30, np.float32) for _ in range(100)]
    session.run()
    assert_same(session.fetch(), infer(model, {"x": array}))
    assert len(rubbish) == 100


def test_weights_beside_the_model_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = write_external(tmp_path / "m.onnx")
    monkeypatch.chdir("/")
    assert infer(model, {"x": normal_feed(64, 128)})["s5"].shape == (64, 128)


def test_missing_weights_are_rejected(tmp_path: Path) -> None:
    model = write_external(tmp_path / "m.onnx")
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(Rejected, match=r"weights\.bin"):
        open_model(model)


def test_an_operator_that_fails_leaves_the_session_usable(tmp_path: Path) -> None:
    session = open_model(write_many_outputs(tmp_path / "m.onnx"))
    session.bind({"ids": np.array([7]), "mask": np.array([True])})
    with pytest.raises(Exception, match=r"Gather.*out of data bounds"):
        session.run()
    session.bind({"ids": np.array([2]), "mask": np.array([True])})
    session.run()
    assert session.fetch()["kept"].tolist() == [2]


def write_same_named_nodes(path: Path) -> Path:
    nodes = [conv("same", "x", "w"), node("Relu", ["same_out"], ["y"], "same")]
    return write_onnx(path, nodes, [value("x", [1, 4, 8, 8])], [value("y", None)], [weights("w", 4, 4, 3, 3)])


def write_unknown_operator(path: Path) -> Path:
    return write_onnx(path, [node("Dance", ["x"], ["y"])], [value("x", [2])], [value("y", [2])])


def write_future(path: Path) -> Path:
    return write_identity(path, "FLOAT", opset=999)


def write_cycle(path: Path) -> Path:
    nodes = [node("Add", ["x", "b"], ["a"]), node("Neg", ["a"], ["b"])]
    return write_onnx(path, nodes, [value("x", [2])], [value("b", [2])])


def write_empty(path: Path) -> Path:
    path.write_bytes(b"")
    return path


def write_text(path: Path) -> Path:
    path.write_text("<html>404</html>")
    return path


def leave_absent(path: Path) -> Path:
    return path


def make_folder(path: Path) -> Path:
    path.mkdir()
    return path


@pytest.mark.parametrize(
    "write",
    [
        write_same_named_nodes,
        write_unknown_operator,
        write_future,
        write_cycle,
        write_empty,
        write_text,
        leave_absent,
        make_folder,
    ],
)
def test_what_is_no_model_is_rejected_in_one_line(write: Writer, tmp_path: Path) -> None:
    with pytest.raises(Rejected, match=r"\S") as rejected:
        open_model(write(tmp_path / "m.onnx"))
    assert "\n" not in str(rejected.value)


@pytest.mark.parametrize(
    ("options", "name", "expected"),
    [
        ({}, "execution_mode", library.ExecutionMode.ORT_SEQUENTIAL),
        ({"execution": "parallel"}, "execution_mode", library.ExecutionMode.ORT_PARALLEL),
        ({}, "inter_op_num_threads", 1),
        ({"inter-op-threads": "3"}, "inter_op_num_threads", 3),
        ({}, "enable_cpu_mem_arena", True),
        ({"arena": "off"}, "enable_cpu_mem_arena", False),
        ({}, "graph_optimization_level", library.GraphOptimizationLevel.ORT_ENABLE_ALL),
        ({"optimization": "extended"}, "graph_optimization_level", library.GraphOptimizationLevel.ORT_ENABLE_EXTENDED),
        ({"optimization": "basic"}, "graph_optimization_level", library.GraphOptimizationLevel.ORT_ENABLE_BASIC),
        ({"optimization": "disable"}, "graph_optimization_level", library.GraphOptimizationLevel.ORT_DISABLE_ALL),
    ],
)
def test_options_reach_the_library(options: dict[str, str], name: str, expected: object) -> None:
    assert getattr(make_session_options(SessionRequest(model="m", options=options)), name) == expected


@pytest.mark.parametrize(("switch", "entry"), [("on", "1"), ("off", "0")])
def test_spinning_reaches_the_library(switch: str, entry: str) -> None:
    options = make_session_options(SessionRequest(model="m", options={"spinning": switch}))
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == entry


def test_threads_reach_the_library() -> None:
    assert make_session_options(SessionRequest(model="m", threads=3)).intra_op_num_threads == 3


@pytest.mark.parametrize("count", ["many", "0", "-1", "1.5", "", "9" * 30])
def test_a_count_that_is_none_is_rejected(count: str) -> None:
    with pytest.raises(Rejected, match="inter-op-threads"):
        make_session_options(SessionRequest(model="m", options={"inter-op-threads": count}))


@pytest.mark.parametrize("provider", ["XNNPACK", "nonsense"])
def test_a_provider_that_is_not_there_is_noted(provider: str, tmp_path: Path) -> None:
    if choose_provider({"provider": provider}) in library.get_available_providers():
        pytest.skip("this build has it")
    (note,) = open_model(write_conv_net(tmp_path / "m.onnx"), provider=provider).notes
    assert choose_provider({"provider": provider}) in note
    assert "CPUExecutionProvider ran everything" in note


def test_a_provider_that_is_there_needs_no_note(tmp_path: Path) -> None:
    model = write_conv_net(tmp_path / "m.onnx")
    assert open_model(model).notes == open_model(model, provider="cpu").notes == ()


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("CPU", "CPUExecutionProvider"),
        ("xnnpack", "XnnpackExecutionProvider"),
        ("XnnpackExecutionProvider", "XnnpackExecutionProvider"),
        ("CoreML", "CoreMLExecutionProvider"),
        ("Vitis", "VitisExecutionProvider"),
    ],
)
def test_providers_are_known_by_their_short_names(word: str, name: str) -> None:
    assert choose_provider({"provider": word}) == name


def test_mapped_weights_give_the_same_outputs_from_a_file_of_this_processor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    model = str(ROOT / "src/edgewright/flows/digits/digits.onnx")
    feeds = {"image": np.random.default_rng(0).random((1, 1, 8, 8), dtype=np.float32)}
    outputs = []
    for way in ("copied", "mapped", "mapped"):
        session = onnxruntime.open_session(SessionRequest(model=model, options={"weights": way}))
        session.bind(feeds)
        session.run()
        outputs.append(session.fetch()["logits"])
        session.close()
    np.testing.assert_allclose(
        outputs[1], outputs[0], rtol=1e-4, atol=1e-4
    )  # products that are not packed round differently
    assert np.array_equal(outputs[1], outputs[2])
    (folder,) = (tmp_path / "cache/edgewright/mapped").iterdir()
    assert {one.name for one in folder.iterdir()} == {"model.onnx", "model.onnx.data"}
    with pytest.raises(Rejected, match="needs provider=CPU"):
        onnxruntime.open_session(SessionRequest(model=model, options={"weights": "mapped", "provider": "xnnpack"}))
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    with pytest.raises(Rejected):
        onnxruntime.open_session(SessionRequest(model=str(tmp_path / "bad.onnx"), options={"weights": "mapped"}))
    assert len([*(tmp_path / "cache/edgewright/mapped").iterdir()]) == 1
