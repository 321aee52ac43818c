"""Functions of a model: counted before they are inlined."""

import onnx
import pytest
from onnx import helper

from edgewright.errors import LimitReached, ModelUnreadable
from edgewright.formats.onnx.functions import count_operators, inline_functions
from edgewright.formats.onnx.typing_process import read_typed
from edgewright.limits import ResourceBudget
from tests.formats.bounds import nested_functions


@pytest.mark.parametrize("depth", [1, 2, 4, 7, 12])
def test_calls_are_counted_as_what_they_stand_for(depth: int) -> None:
    assert count_operators(nested_functions(depth)) == 10**depth


def test_the_count_is_that_of_the_inlined_graph() -> None:
    model = nested_functions(3)
    assert len(inline_functions(model, ResourceBudget()).graph.node) == count_operators(model)


def test_counting_ends_and_is_reported() -> None:
    with pytest.raises(LimitReached) as caught:
        inline_functions(nested_functions(400), ResourceBudget(memory_bytes=1e9))
    assert "operators (with its functions inlined)" in caught.value.what
    assert "EDGEWRIGHT_MEMORY_LIMIT" in caught.value.try_this


def test_a_small_file_of_nested_functions_is_not_inlined(tmp_path, monkeypatch) -> None:  # type: ignore[no-untyped-def]  # pytest's own
    import onnx.inliner

    monkeypatch.setattr(onnx.inliner, "inline_local_functions", None)
    path = tmp_path / "m.onnx"
    path.write_bytes(nested_functions(5).SerializeToString())
    with pytest.raises(LimitReached, match="100000 operators"):
        read_typed(path, {}, ResourceBudget(memory_bytes=64_000_000))


def test_constants_that_calls_copy_count_too() -> None:
    """Eight bytes for each call copy a constant of a megabyte."""
    model = nested_functions(3)
    held = helper.make_tensor("c", onnx.TensorProto.INT8, [1 << 20], bytes(1 << 20), raw=True)
    for function in model.functions:
        function.node.append(helper.make_node("Constant", [], ["c"], value=held))
    with pytest.raises(LimitReached, match="functions inlined"):
        inline_functions(model, ResourceBudget(memory_bytes=64_000_000))
    del model.functions[:]
    model.graph.node.append(helper.make_node("Constant", [], ["c"], value=held))
    assert inline_functions(model, ResourceBudget(memory_bytes=64_000_000)) is model


def test_functions_that_call_each_other_in_a_circle() -> None:
    model = nested_functions(2)
    del model.functions[1].node[:]
    model.functions[1].node.append(helper.make_node("F0", ["a"], ["z"], domain="d"))
    with pytest.raises(ModelUnreadable, match="calls itself"):
        inline_functions(model, ResourceBudget())


def test_calls_within_inner_graphs_count_too() -> None:
    model = nested_functions(2)
    call = onnx.NodeProto()
    call.CopyFrom(model.graph.node[0])
    body = helper.make_graph([call], "b", [], [helper.make_tensor_value_info("y", 1, [1, 4])])
    choice = helper.make_node("If", ["c"], ["y"], then_branch=body, else_branch=body)
    del model.graph.node[:]
    model.graph.node.append(choice)
    assert count_operators(model) == 201
