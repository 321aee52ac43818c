"""From what was typed to a whole plan."""

from pathlib import Path
from typing import Any, get_args

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import fields, replace

from edgewright.bench.feeds import write_feeds
from edgewright.errors import ConfigError, EdgewrightError, InputError, LimitReached, ModelUnreadable, UsageError
from edgewright.flows.benchmark.flow import resolve_plan
from edgewright.flows.candidates import (
    BOUNDS,
    check_plan,
    find_native_runtime,
    get_flag,
    get_free_shapes,
    make_model_feeds,
    pair_candidates,
    read_plan,
)
from edgewright.formats.artifacts import find_record, read_record, record_path
from edgewright.formats.files import read_model
from edgewright.schema.model import Model, Signature
from edgewright.schema.plan import BenchmarkPlan, Candidate, encode_plan, hash_plan
from tests.bench.quick import make_plan
from tests.models.artifact_records import put_artifact
from tests.models.onnx_files import node, value, write_conv_net, write_many_outputs, write_onnx


def model_of(name: str, kind: str) -> Model:
    signature = Signature(inputs=(), outputs=())
    return Model(path=name, name=name, format=kind, sha256=name, bytes=1, signature=signature, precision="fp32")


ONNX, LITE, MADE_UP = model_of("a.onnx", "onnx"), model_of("b.tflite", "tflite"), model_of("c", "pretend")


def pairs(*arguments: Any) -> list[tuple[str, str]]:
    return [(candidate.model, candidate.runtime) for candidate in pair_candidates(*arguments)]


def catch_error(kind: type[EdgewrightError], call: Any, *arguments: Any) -> EdgewrightError:
    with pytest.raises(kind) as caught:
        call(*arguments)
    assert caught.value.exit_code == 2
    return caught.value


# Candidates


def test_the_format_has_its_own_runtime() -> None:
    assert pairs([ONNX, LITE, MADE_UP], [], []) == [
        ("a.onnx", "onnxruntime"),
        ("b.tflite", "litert"),
        ("c", "pretend"),
    ]


def test_every_model_in_every_runtime_that_reads_it() -> None:
    assert pairs([ONNX, LITE], ["tflite", "ORT", "ort"], []) == [("a.onnx", "onnxruntime"), ("b.tflite", "litert")]
    assert pairs([ONNX, LITE], ["pretend"], []) == [("a.onnx", "pretend"), ("b.tflite", "pretend")]


def test_a_model_may_race_itself() -> None:
    assert pairs([ONNX, ONNX], [], []) == [("a.onnx", "onnxruntime")] * 2


def test_a_model_that_no_runtime_reads() -> None:
    error = catch_error(UsageError, pair_candidates, [ONNX, LITE], ["litert"], [])
    assert "a.onnx" in error.what
    assert "--runtime onnxruntime" in error.try_this


def test_a_runtime_that_reads_no_model() -> None:
    error = catch_error(UsageError, pair_candidates, [ONNX], ["onnxruntime", "litert"], [])
    assert "litert" in error.what
    assert "tflite" in error.why


def test_an_unknown_runtime_lists_the_known() -> None:
    assert (
        "onnxruntime, litert, ncnn, mnn, openvino,"
        in catch_error(UsageError, pair_candidates, [ONNX], ["tensorflow"], []).why
    )


# Options


def options(*words: str) -> dict[str, dict[str, str]]:
    both = pair_candidates([ONNX, LITE], ["onnxruntime", "litert"], words)
    return {candidate.runtime: candidate.options for candidate in both}


def test_an_option_goes_to_those_that_know_it() -> None:
    assert options("optimization=basic", "delegate=none") == {
        "onnxruntime": {"optimization": "basic"},
        "litert": {"delegate": "none"},
    }


def test_an_option_for_one_runtime_and_in_any_writing() -> None:
    assert options("ORT.Inter_Op_Threads = 2")["onnxruntime"] == {"inter-op-threads": "2"}


@pytest.mark.parametrize(
    ("word", "words"),
    [
        ("optimization", "KEY=VALUE"),
        ("=basic", "KEY=VALUE"),
        ("speed=fast", "known: optimization"),
        ("optimization=most", "known values: all, extended, basic, disable"),
        ("litert.optimization=all", "known: delegate"),
        ("pretend.noise=1", "the chosen runtimes are onnxruntime, litert"),
        ("tensorflow.x=1", "known: onnxruntime"),
    ],
)
def test_options_that_are_wrong(word: str, words: str) -> None:
    error = catch_error(UsageError, options, word)
    assert words in f"{error.what} {error.why}"


# Numbers


def test_every_number_of_a_plan_has_bounds() -> None:
    numbers = {field.name for field in fields(BenchmarkPlan) if {int, float} & {field.type, *get_args(field.type)}}
    assert numbers - {"affinity"} == set(BOUNDS)


@pytest.mark.parametrize("name", BOUNDS)
def test_every_number_has_bounds(name: str) -> None:
    plan = make_plan()
    low, high = BOUNDS[name]
    for good in (low, high):
        check_plan(replace(plan, **{name: good}))
    flag = get_flag(name)
    for bad in (low - 1, high * 2, float("nan"), float("inf"), float("-inf")):
        error = catch_error(UsageError, check_plan, replace(plan, **{name: bad}))
        assert flag in error.what
        assert flag in error.try_this


@pytest.mark.parametrize(
    "changes",
    [
        {"candidates": ()},
        {"schema": "edgewright.plan/2"},
        {"shapes": {"x": (1, 0)}},
        {"shapes": {"x": (-1,)}},
        {"affinity": (-1,)},
        {"candidates": (Candidate(model="m", runtime="nope"),)},
        {"candidates": (Candidate(model="m", runtime="pretend", options={"fail": "sometimes"}),)},
    ],
)
def test_plans_that_no_benchmark_can_have(changes: dict[str, Any]) -> None:
    catch_error(UsageError, check_plan, replace(make_plan(), **changes))


# Plan files


def test_a_resolved_plan_is_a_plan_file(tmp_path: Path) -> None:
    write_conv_net(tmp_path / "m.onnx", batch="N")
    plan = make_plan(str(tmp_path / "m.onnx"), shapes={"x": (2, 3, 8, 8)}, power_w=1.5, affinity=(0, 1))
    resolved, models = resolve_plan(plan)
    assert resolved.candidates[0].model_sha256 == models[resolved.candidates[0].model].sha256
    file = tmp_path / "plan.json"
    file.write_bytes(msgspec.json.encode(resolved))
    assert read_plan(file) == resolved
    assert resolve_plan(resolved)[0] == resolved


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"candidates": []}',
        b'{"candidates": [], "speed": 1}',
        b'{"candidates": [{"model": "m", "runtime": "pretend"}], "threads": "4"}',
        b'{"candidates": [{"model": "m", "runtime": "pretend"}], "threads": 0}',
        b'{"candidates": [{"model": "m", "runtime": "pretend"}], "seconds": 1e400}',
        b'{"candidates": [{"model": "m", "runtime": "pretend"}], "threads": 1e99}',
        b'{"schema": "edgewright.plan/9", "candidates": [{"model": "m", "runtime": "pretend"}]}',
        b"[" * 100_000,
    ],
)
def test_plan_files_that_are_none(tmp_path: Path, text: bytes) -> None:
    file = tmp_path / "plan.json"
    file.write_bytes(text)
    catch_error(UsageError, read_plan, file)


def test_plan_files_that_are_not_there(tmp_path: Path) -> None:
    assert "--dry-run" in catch_error(ConfigError, read_plan, tmp_path / "absent.json").try_this
    catch_error(ConfigError, read_plan, tmp_path)


@given(st.binary(max_size=80) | st.text(max_size=80).map(str.encode))
def test_any_bytes_as_a_plan(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    file = tmp_path_factory.getbasetemp() / "any-plan.json"
    file.write_bytes(data)
    with pytest.raises(UsageError):
        read_plan(file)


@given(st.integers(1, 64), st.lists(st.text(max_size=5), max_size=3), st.floats(0.001, 5))
def test_plans_survive_json(threads: int, names: list[str], seconds: float) -> None:
    plan = make_plan(*names, threads=threads, seconds=seconds, shapes=dict.fromkeys(names, (1, 2)))
    assert msgspec.json.decode(encode_plan(plan), type=BenchmarkPlan) == plan


def test_the_hash_is_of_contents_not_of_paths() -> None:
    here = replace(make_plan("a"), candidates=(Candidate(model="a", runtime="pretend", model_sha256="1"),))
    there = replace(here, candidates=(Candidate(model="b", runtime="pretend", model_sha256="1"),), inputs="x.npz")
    other = replace(here, candidates=(Candidate(model="a", runtime="pretend", model_sha256="2"),))
    assert hash_plan(here) == hash_plan(there) != hash_plan(other)
    assert hash_plan(here) != hash_plan(replace(here, threads=2))


def test_a_plan_for_another_model_or_other_inputs(tmp_path: Path) -> None:
    model = str(write_conv_net(tmp_path / "m.onnx"))
    write_feeds(tmp_path / "i.npz", {"x": np.zeros((1, 3, 8, 8), np.float32)})
    plan, _ = resolve_plan(make_plan(model, inputs=str(tmp_path / "i.npz")))
    assert len(plan.inputs_sha256) == 64
    wrong = replace(plan, candidates=(replace(plan.candidates[0], model_sha256="0" * 64),))
    assert "not the model in the plan" in catch_error(ConfigError, resolve_plan, wrong).what
    write_feeds(tmp_path / "i.npz", {"x": np.ones((1, 3, 8, 8), np.float32)})
    assert "differs from the inputs in the plan" in catch_error(ConfigError, resolve_plan, plan).what
    assert (
        "differs from the inputs in the plan" in catch_error(ConfigError, resolve_plan, replace(plan, inputs=None)).what
    )


@pytest.mark.parametrize("runtime", ["litert", "ncnn", "torch"])
def test_a_plan_whose_runtime_does_not_read_its_model(tmp_path: Path, runtime: str) -> None:
    """A plan of an imported run may name any runtime; one of torch would run what it is given as code."""
    plan = make_plan(str(write_conv_net(tmp_path / "m.onnx")))
    other = replace(plan, candidates=(replace(plan.candidates[0], runtime=runtime, options={}),))
    assert "is not supported by" in catch_error(UsageError, resolve_plan, other).what


# Inputs and shapes


def test_shapes_and_inputs_that_fit_no_model(tmp_path: Path) -> None:
    model = str(write_conv_net(tmp_path / "m.onnx", batch="N"))
    assert "dynamic dimensions (N)" in catch_error(InputError, resolve_plan, make_plan(model)).what
    error = catch_error(InputError, resolve_plan, make_plan(model, shapes={"y": (1, 3, 8, 8)}))
    assert "no model has this input" in error.what
    assert "x" in error.why
    catch_error(InputError, resolve_plan, make_plan(model, shapes={"x": (1, 4, 8, 8)}))
    with pytest.raises(LimitReached, match="input"):
        resolve_plan(make_plan(model, shapes={"x": (1 << 50, 3, 8, 8)}))
    catch_error(InputError, resolve_plan, make_plan(model, inputs=str(tmp_path / "absent.npz")))
    catch_error(InputError, resolve_plan, make_plan(model, inputs=str(tmp_path)))


def test_fixed_values_are_not_generated(tmp_path: Path) -> None:
    inputs = [value("x", ["n", 2]), value("k", [1], "INT64")]
    nodes = [node("Cast", ["k"], ["c"], to=1), node("Mul", ["x", "c"], ["y"])]
    model = str(write_onnx(tmp_path / "m.onnx", nodes, inputs, [value("y", ["n", 2])]))
    free = make_plan(model, shapes={"x": (1, 2)})
    plan = replace(free, fixed={"k": (16000,)})
    feeds, others = (make_model_feeds(read_model(Path(model)), one) for one in (plan, free))
    assert feeds["k"].tolist() == [16000]
    np.testing.assert_array_equal(feeds["x"], others["x"])
    np.savez(tmp_path / "x.npz", x=feeds["x"])
    plan = replace(plan, inputs=str(tmp_path / "x.npz"))
    assert make_model_feeds(read_model(Path(model)), plan)["k"].tolist() == [16000]
    error = catch_error(InputError, resolve_plan, replace(free, fixed={"z": (1,)}))
    assert "--fix z: no model has this input" in error.what
    for numbers, what in (((0.5,), "whole number"), ((1, 2), "1 value"), ((2**63,), "whole number")):
        assert what in catch_error(InputError, resolve_plan, replace(free, fixed={"k": numbers})).try_this


def test_only_free_sizes_are_sent_to_the_runtime(tmp_path: Path) -> None:
    model = read_model(write_many_outputs(tmp_path / "m.onnx"))
    feeds = make_model_feeds(model, make_plan("m", shapes={"ids": (5,), "mask": (5,), "of-another-model": (1,)}))
    assert get_free_shapes(model, feeds) == {"ids": (5,), "mask": (5,)}
    fixed = read_model(write_conv_net(tmp_path / "n.onnx"))
    assert get_free_shapes(fixed, make_model_feeds(fixed, make_plan("n"))) == {}


def test_the_users_inputs_decide_free_sizes(tmp_path: Path) -> None:
    model = read_model(write_conv_net(tmp_path / "m.onnx", batch="N"))
    write_feeds(tmp_path / "i.npz", {"x": np.zeros((7, 3, 8, 8), np.float32)})
    feeds = make_model_feeds(model, make_plan("m", inputs=str(tmp_path / "i.npz")))
    assert get_free_shapes(model, feeds) == {"x": (7, 3, 8, 8)}


def test_an_artifact_of_a_format_that_nothing_reads(tmp_path: Path) -> None:
    main = put_artifact(tmp_path)
    record = record_path(main)
    record.write_text(record.read_text().replace('"format": "ncnn"', '"format": "nobody"'))
    with pytest.raises(ModelUnreadable, match=r"does not match its record: .* format is 'nobody'"):
        read_model(main)
    with pytest.raises(ModelUnreadable, match="is not supported by any runtime: its format is 'nobody'"):
        find_native_runtime(model_of("m", "nobody"))


def test_a_record_that_never_ends(tmp_path: Path) -> None:
    main = put_artifact(tmp_path)
    record_path(main).unlink()
    record_path(main).symlink_to("/dev/zero")
    assert find_record(main) is None  # it lies beside the model as if it were not there
    with pytest.raises(ModelUnreadable, match="not a regular file"):
        read_record(record_path(main))


def test_a_plan_that_never_ends() -> None:
    with pytest.raises(ConfigError, match="is not a plan"):
        read_plan(Path("/dev/zero"))
