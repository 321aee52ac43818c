"""Each fault of an exported run is found for its own reason."""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from edgewright.formats.artifacts import record_path
from edgewright.formats.files import hash_file, join_hashes
from edgewright.schema.run import Run, RunOutput, Series
from edgewright.store.exports.checks import MAX_DEPTH, MAX_LETTERS, find_fault
from tests.contracts.sample_runs import begun_run, finished_run, sample_plan
from tests.models.artifact_records import put_artifact


def nested(depth: int) -> Any:
    """Lists within lists: `depth` of them."""
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def with_files(run: Run, **files: bytes) -> tuple[Run, Mapping[str, bytes]]:
    """Return the run with an output for each role, `_` for `:`, and their bytes by hash."""
    held = {hashlib.sha256(data).hexdigest(): data for data in files.values()}
    outputs = [
        RunOutput(role=role.replace("_", ":"), sha256=sha256, bytes=len(data))
        for role, sha256, data in zip(files, held, files.values(), strict=True)
    ]
    return replace(run, outputs=tuple(outputs)), held


def with_model(run: Run, **fields: Any) -> Run:
    assert run.model is not None
    return replace(run, model=replace(run.model, **fields))


def with_plan(**fields: Any) -> Callable[[Run], Run]:
    return lambda run: replace(run, plan=sample_plan() | fields)


@pytest.fixture
def run() -> Run:
    return replace(finished_run(begun_run()), outputs=())


def test_a_run_without_a_fault(run: Run) -> None:
    assert find_fault(run, {}) == ""


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda run: replace(run, id="../x"), "'../x' is not the id of a run"),
        (lambda run: replace(run, parent_id="x"), "'x' is not the id of a run"),
        (lambda run: replace(run, state="running"), "it has no result"),
        (lambda run: replace(run, finished_at="yesterday"), "'yesterday' is not a time"),
        (lambda run: replace(run, started_at="1969-01-01T00:00:00+00:00"), "it is before 1970"),
        (with_plan(threads="x"), "is not a valid benchmark plan"),
        (with_plan(candidates=[]), "has 0 candidates"),
        (lambda run: with_model(run, sha256="f" * 64), "its plan belongs to another model"),
        (lambda run: replace(run, environment={"packages": ["numpy"]}), "are not names and versions"),
        (lambda run: replace(run, environment={"x": nested(MAX_DEPTH + 1)}), "its environment cannot be kept"),
        (lambda run: replace(run, environment={"x": 2**63}), "a number is too large"),
        (lambda run: replace(run, environment={"x": float("nan")}), "a number is not finite"),
        (lambda run: replace(run, note="x" * (MAX_LETTERS + 1)), "one of its texts has more than"),
        (lambda run: replace(run, series=(Series(name="wall.samples", unit="", data=(0.5,)),)), "not whole numbers"),
        (lambda run: replace(run, layers=(replace(run.layers[0], memory_bytes=-1),)), "samples is out of range"),
        (lambda run: replace(run, layers=(replace(run.layers[0], position=-1),)), "a layer is out of range"),
        (lambda run: with_model(run, name="../x"), "which is not a valid file name"),
        (lambda run: with_model(run, data_files=("../x",)), "the name of its file '../x' is not valid or is outside"),
        (lambda run: with_files(run, data_w=b"1")[0], "its model has no file 'w'"),
        (lambda run: with_files(run, model=b"other bytes")[0], "its output model differs from the recorded model"),
        (lambda run: replace(run, outputs=(RunOutput(role="log", sha256="c" * 64, bytes=3),) * 2), "several outputs"),
    ],
)  # fmt: skip
def test_faults(run: Run, change: Callable[[Run], Run], why: str) -> None:
    assert why in find_fault(change(run), {})


def test_what_is_just_allowed(run: Run) -> None:
    environment = {"x": nested(MAX_DEPTH - 1), "y": 2**63 - 1}
    samples = (Series(name="wall.samples", unit="", data=(0.0, 7.0)),)
    assert find_fault(replace(run, environment=environment, series=samples), {}) == ""


@pytest.mark.parametrize(
    ("data", "kind", "why"),
    [
        (b"PK\x03\x04 an archive of torch", "onnx", "recorded as onnx, but its content is"),
        (b"\x08\x08\x12\x00", "torch", "its model has the format torch; supported formats are"),
        (b"\x08\x08\x12\x00", "tflite", "recorded as tflite, but its content is onnx"),
        (b"\0" * 64, "tflite", "recorded as tflite, but its content is another format"),
        (b"\x08\x08\x12\x00", "onnx", ""),
    ],
)
def test_the_format_is_detected_by_the_bytes(run: Run, tmp_path: Path, data: bytes, kind: str, why: str) -> None:
    run, held = with_files(replace(run, kind="evaluate"), model=data)
    (sha256,) = held
    (tmp_path / sha256).write_bytes(data)
    found = find_fault(with_model(run, sha256=sha256, format=kind), {sha256: tmp_path / sha256})
    assert why in found if why else not found


def test_an_artifact_without_its_record(run: Run) -> None:
    run, _ = with_files(run, artifact_m=b"1")
    assert "the record of its artifact is missing" in find_fault(run, {})


def make_compiled(run: Run, folder: Path) -> tuple[Run, dict[str, Path]]:
    """A run that made an artifact of two files, with its record, and the paths of these by hash."""
    main = put_artifact(folder)
    record = record_path(main)
    assert run.model is not None
    hashes = {path.name: hash_file(path) for path in (main, main.with_suffix(".bin"))}
    model_id = join_hashes(list(hashes.values()))
    outputs = [
        RunOutput(role=f"artifact:{name}", sha256=sha256, bytes=7, model_id=model_id) for name, sha256 in hashes.items()
    ]
    outputs.append(RunOutput(role="record", sha256=hash_file(record), bytes=record.stat().st_size))
    model = replace(run.model, sha256="0" * 64)  # the source of the record
    files = {hash_file(path): path for path in folder.iterdir()}
    return replace(run, kind="compile", model=model, outputs=tuple(outputs)), files


def test_an_artifact_with_its_record(run: Run, tmp_path: Path) -> None:
    assert find_fault(*make_compiled(run, tmp_path)) == ""


def change_outputs(role: str, **fields: Any) -> Callable[[Run], Run]:
    def change(run: Run) -> Run:
        return replace(run, outputs=tuple(replace(one, **fields) if one.role == role else one for one in run.outputs))

    return change


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda run: with_model(run, sha256="f" * 64), "its artifact was made from another model"),
        (lambda run: replace(run, model=None), "its artifact was made from another model"),
        (lambda run: replace(run, outputs=run.outputs[1:]), "its artifact differ from those in the artifact's record"),
        (change_outputs("artifact:m-ncnn-fp32.bin", model_id="f" * 64), "its artifact differs from the recorded model"),
        (change_outputs("record", bytes=(64 << 20) + 1), "the record of its artifact is larger than 64 MiB"),
        (change_outputs("record", sha256="e" * 64), "the record of its artifact is missing"),
    ],
)  # fmt: skip
def test_faults_of_an_artifact(run: Run, tmp_path: Path, change: Callable[[Run], Run], why: str) -> None:
    run, files = make_compiled(run, tmp_path)
    assert why in find_fault(change(run), files)


def test_the_hash_of_an_artifact_begins_with_its_main_file(run: Run, tmp_path: Path) -> None:
    run, files = make_compiled(run, tmp_path)
    turned = join_hashes([one.sha256 for one in run.outputs if one.model_id][::-1])
    outputs = tuple(replace(one, model_id=turned) if one.model_id else one for one in run.outputs)
    assert "the hash does not match" in find_fault(replace(run, outputs=outputs), files)


@pytest.mark.parametrize("order", [["w", "b"], ["b", "w"], ["w"]], ids="-".join)
def test_the_hash_of_a_model_with_data_files(run: Run, order: list[str]) -> None:
    """Its files count in the recorded order or by name."""
    run, _ = with_files(replace(run, kind="evaluate"), model=b"m", data_w=b"w", data_b=b"b")
    hashes = {one.role: one.sha256 for one in run.outputs}
    joined = join_hashes([hashes["model"], *(hashes[f"data:{name}"] for name in order)])
    fault = find_fault(with_model(run, sha256=joined, data_files=("w", "b")), {})
    assert ("its output model differs" in fault) == (order == ["w"])


def test_a_model_that_a_run_made_is_onnx_or_tflite(run: Run, tmp_path: Path) -> None:
    """A file without a mark may be ONNX."""
    for name, data, why in (
        ("unmarked", b"\x08\x08\x12\x00", ""),
        ("archive", b"PK\x03\x04 an archive of torch", "its model has the format"),
    ):
        made, held = with_files(replace(run, kind="prune"), model=data)
        (tmp_path / name).write_bytes(data)
        (sha256,) = held
        made = replace(made, outputs=(replace(made.outputs[0], model_id=sha256),))
        found = find_fault(made, {sha256: tmp_path / name})
        assert why in found if why else not found


@pytest.mark.parametrize(
    ("depth", "count", "fault"),
    [(32, 2.0**53, ""), (33, 1.0, "more than 32 levels"), (1, 2.0**54, "not whole numbers")],
)
def test_depths_and_counts_at_their_limits(run: Run, depth: int, count: float, fault: str) -> None:
    samples = (Series(name="wall.samples", unit="", data=(count,)),)
    found = find_fault(replace(run, environment={"x": nested(depth - 1)}, series=samples), {})
    assert fault in found if fault else not found


def test_a_long_id_is_cut_in_the_message(run: Run) -> None:
    assert find_fault(replace(run, id="x" * 99), {}) == f"'{'x' * 40}' is not the id of a run"
