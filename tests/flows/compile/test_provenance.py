"""Bytes on record are data: what was imported neither runs, nor is written anywhere, nor stands for anything else."""

import hashlib
import io
import shutil
import zipfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from edgewright.devices.local import LocalDevice
from edgewright.errors import ImportRejected, OutputError, StoreError
from edgewright.flows.benchmark.flow import benchmark
from edgewright.flows.benchmark.rerun import rerun
from edgewright.flows.compile.flow import CellReport, compile_all
from edgewright.flows.compile.publication import publish_artifact
from edgewright.flows.stored_model import fetch_model, get_stored_model, make_file_name
from edgewright.flows.workspace import Workspace
from edgewright.formats.artifacts import find_record, is_inside
from edgewright.formats.files import join_hashes
from edgewright.schema.artifact import Artifact
from edgewright.schema.plan import CompileCell, CompilePlan
from edgewright.schema.run import Run
from edgewright.store.runs.ids import new_run_id
from edgewright.store.runs.queries import RunFilter
from edgewright.store.store import Store, open_store
from edgewright.web.jobs.form import find_run_with_file
from tests.bench.quick import QuickDevice, make_plan
from tests.contracts.sample_runs import sample_model
from tests.models.onnx_files import write_conv_net
from tests.store.exports.forging import put_output, rewrite

STRANGE_NAMES = [
    "../x",
    "/tmp/x",
    "a/../../x",
    "..",
    ".",
    "",
    "a//b",
    "a/./b",
    "..\\x",
    "C:x",
    "C:/x",
    "x\0",
    "x\ny",
    "nul",
    "sub/COM1.txt",
    "x.",
    "x /y",
    "n" * 256,
    "/".join(["d" * 200] * 6),
]


def compile_here(model: Path, out: Path, store: Store) -> CellReport:
    plan = CompilePlan(source=str(model), cells=(CompileCell(runtime="onnxruntime", precision="fp32"),), samples=2)
    with closing(LocalDevice()) as device:
        report, error = compile_all(plan, out, Workspace(device, store, lambda text: None))
    assert error is None
    return report.artifacts[0]


def backdoor(model: bytes) -> bytes:
    """Another network: the same graph with other weights."""
    return model[:-200] + bytes(reversed(model[-200:]))


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, and the exports of a benchmark and of a compile of it, made on another machine."""
    folder = tmp_path_factory.mktemp("kit")
    model = write_conv_net(folder / "m.onnx")
    with open_store(folder / "home") as store:
        (measured,) = benchmark(
            make_plan(str(model)), Workspace(QuickDevice(folder), store, lambda text: None), {}
        ).runs
        store.export_run(measured.id, folder / "benchmark")
        made = compile_here(model, folder / "made", store)
        store.export_run(made.run_id or "", folder / "compile")
    return folder


@pytest.fixture
def model(kit: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(kit / "m.onnx", tmp_path / "m.onnx"))


@pytest.fixture
def forged(kit: Path, tmp_path: Path) -> Callable[[str], Path]:
    """A copy of one of the exports, with an id of its own."""

    def copy(kind: str) -> Path:
        folder = tmp_path / f"forged-{kind}"
        shutil.copytree(kit / kind, folder)
        rewrite(folder, lambda content: content["run"].update(id=new_run_id(), parent_id=None))
        return folder

    return copy


def forge_artifact(folder: Path, change: Callable[[Artifact], Artifact], files: dict[str, bytes]) -> None:
    """Change the record of an exported artifact, and everything that depends on it."""
    content = msgspec.json.decode((folder / "run.json").read_bytes())
    file = next(one["file"] for one in content["artefacts"] if one["role"] == "record")
    record = change(msgspec.json.decode((folder / file).read_bytes(), type=Artifact))
    hashes = [record.files[name] for name in sorted(record.files, key=lambda name: (name != record.main, name))]
    model_id = join_hashes(hashes)
    for output in content["run"]["outputs"]:
        if output["role"].startswith("artifact:"):
            output["model_id"] = model_id
    rewrite(folder, lambda now: now["run"].update(outputs=content["run"]["outputs"]))
    for name, data in files.items():
        put_output(folder, f"artifact:{name}", data, model_id)
    put_output(folder, "record", msgspec.json.encode(record))


def poison(folder: Path, model: Path) -> bytes:
    """Another network as the artifact, with the figures of the honest one; every hash fits."""
    data = backdoor(model.read_bytes())
    sha256 = hashlib.sha256(data).hexdigest()
    forge_artifact(
        folder, lambda one: replace(one, files={one.main: sha256}, bytes=len(data)), {"m-onnxruntime-fp32.onnx": data}
    )
    return data


@pytest.mark.parametrize("name", STRANGE_NAMES)
def test_names_that_are_none(name: str) -> None:
    assert not is_inside(name)


@pytest.mark.parametrize(
    "name", ["a", "a/b.c", "größe.onnx", "xx:y", "onnx__MatMul_1", ".hidden", "a b", "console.txt"]
)
def test_names_that_are_fine(name: str) -> None:
    assert is_inside(name)


@pytest.mark.parametrize("name", ["../x", "/tmp/x", "..\\x"])
def test_an_artifact_that_leads_out_of_its_folder(forged: Callable[[str], Path], store: Store, name: str) -> None:
    folder, data = forged("compile"), b"#!/bin/sh\n"
    sha256 = hashlib.sha256(data).hexdigest()
    forge_artifact(folder, lambda one: replace(one, files={**one.files, name: sha256}), {name: data})
    with pytest.raises(ImportRejected) as caught:
        store.import_run(folder)
    assert caught.value.exit_code == 2
    assert store.list_runs() == []


def test_an_artifact_whose_main_file_lies_elsewhere(forged: Callable[[str], Path], store: Store) -> None:
    folder = forged("compile")
    forge_artifact(folder, lambda one: replace(one, main="../x", files={"../x": "a" * 64}), {"../x": b""})
    with pytest.raises(ImportRejected):
        store.import_run(folder)


def test_an_imported_compile_is_no_cache(
    forged: Callable[[str], Path], model: Path, tmp_path: Path, store: Store
) -> None:
    folder = forged("compile")
    planted = poison(folder, model)
    imported = store.load(store.import_run(folder))
    assert imported.imported
    assert imported.imported_at is not None
    report = compile_here(model, tmp_path / "out", store)
    assert report.path is not None
    assert Path(report.path).read_bytes() != planted
    assert not report.cached
    assert compile_here(model, tmp_path / "out", store).cached  # what was made here is one


def test_an_artifact_with_other_bytes_than_its_record_says(
    forged: Callable[[str], Path], model: Path, store: Store
) -> None:
    folder = forged("compile")
    put_output(folder, "artifact:m-onnxruntime-fp32.onnx", backdoor(model.read_bytes()))
    with pytest.raises(ImportRejected, match="differ from those in the artifact's record"):
        store.import_run(folder)


def test_an_artifact_of_another_model(forged: Callable[[str], Path], store: Store) -> None:
    folder = forged("compile")
    forge_artifact(folder, lambda one: replace(one, source=replace(one.source, sha256="f" * 64)), {})
    with pytest.raises(ImportRejected, match="made from another model"):
        store.import_run(folder)


def test_an_artifact_with_the_hash_of_another(forged: Callable[[str], Path], store: Store) -> None:
    def change(content: dict[str, Any]) -> None:
        for output in content["run"]["outputs"]:
            if output["role"].startswith("artifact:"):
                output["model_id"] = "f" * 64

    folder = forged("compile")
    rewrite(folder, change)
    with pytest.raises(ImportRejected, match="its artifact differs from the recorded model"):
        store.import_run(folder)


@pytest.mark.parametrize("lie", ["name", "key"])
def test_an_own_compile_that_was_tampered_with(kit: Path, model: Path, tmp_path: Path, store: Store, lie: str) -> None:
    """Bytes are compared with the record again where they are taken from it; so is what they were compiled for."""
    with open_store(kit / "home") as theirs:
        (row,) = theirs.list_runs(RunFilter(kind="compile"))
        made = theirs.load(row.id)
        with theirs.open_blob(next(one.sha256 for one in made.outputs if one.role == "record")) as file:
            record = msgspec.json.decode(file.read(), type=Artifact)
    again = replace(made, id=new_run_id(), outputs=(), imported=False)
    store.begin(again)
    evil = store.put_bytes(again.id, b"#!/bin/sh\n", role="artifact:../x")
    bad = replace(record, files={**record.files, "../x": evil.sha256} if lie == "name" else record.files)
    bad = replace(bad, key="f" * 64 if lie == "key" else record.key)
    kept = store.put_bytes(again.id, msgspec.json.encode(bad), role="record")
    honest = store.put_bytes(again.id, (kit / "made" / record.main).read_bytes(), role=f"artifact:{record.main}")
    store.finish(replace(again, outputs=(evil, honest, kept)))
    assert store.list_runs(RunFilter(kind="compile", plan_hash=made.plan_hash, imported=False))
    (tmp_path / "x").write_text("years of work")
    assert not compile_here(model, tmp_path / "out", store).cached
    assert (tmp_path / "x").read_text() == "years of work"


@pytest.mark.parametrize("name", ["../x", "/tmp/x", "link/x/../../../x"])
def test_nothing_is_published_outside_of_the_folder(kit: Path, tmp_path: Path, name: str) -> None:
    record = find_record(kit / "made/m-onnxruntime-fp32.onnx")
    assert record is not None
    made, out = tmp_path / "deep/made", tmp_path / "deep/out"
    shutil.copytree(kit / "made", made)
    out.mkdir()
    (tmp_path / "deep/x").write_text("mine")
    (out / record.main).write_text("mine")
    for one in (replace(record, files={**record.files, name: "a" * 64}), replace(record, main=name)):
        with pytest.raises(OutputError, match="outside the artifact"):
            publish_artifact(one, made, out)
    assert (tmp_path / "deep/x").read_text() == (out / record.main).read_text() == "mine"


def test_a_link_in_the_output_folder_is_replaced_and_not_followed(kit: Path, tmp_path: Path) -> None:
    record = find_record(kit / "made/m-onnxruntime-fp32.onnx")
    assert record is not None
    made, out, mine = tmp_path / "made", tmp_path / "out", tmp_path / "mine"
    shutil.copytree(kit / "made", made)
    out.mkdir()
    mine.mkdir()
    (mine / "file").write_text("mine")
    (out / record.main).symlink_to(mine, target_is_directory=True)
    publish_artifact(record, made, out)
    assert (out / record.main).is_file()
    assert (mine / "file").read_text() == "mine"


def torch_archive() -> bytes:
    with zipfile.ZipFile(held := io.BytesIO(), "w") as archive:
        archive.writestr("archive/data.pkl", "cos\nsystem\n(S'true'\ntR.")
    return held.getvalue()


def test_torch_bytes_under_the_hash_of_the_user_s_model(forged: Callable[[str], Path], store: Store) -> None:
    folder = forged("benchmark")
    rewrite(folder, lambda content: content["run"]["model"].update(name="resnet50.pt2"))
    rewrite(folder, lambda content: content["run"].update(started_at="2099-01-01T00:00:00+00:00"))
    claimed = msgspec.json.decode((folder / "run.json").read_bytes())["run"]["model"]["sha256"]
    put_output(folder, "model", torch_archive(), claimed)
    with pytest.raises(ImportRejected, match="the hash does not match"):
        store.import_run(folder)


@pytest.mark.parametrize("kind", ["onnx", "zip", "torch"])
def test_torch_bytes_under_their_own_hash(forged: Callable[[str], Path], store: Store, kind: str) -> None:
    folder = forged("benchmark")
    sha256 = hashlib.sha256(torch_archive()).hexdigest()
    put_output(folder, "model", torch_archive(), sha256)
    rewrite(folder, lambda content: content["run"]["model"].update(name="resnet50.pt2", sha256=sha256, format=kind))
    rewrite(folder, lambda content: content["run"]["plan"]["candidates"][0].update(model_sha256=sha256))
    with pytest.raises(ImportRejected, match=r"zip|torch"):
        store.import_run(folder)


def test_python_beside_a_model(forged: Callable[[str], Path], store: Store) -> None:
    folder = forged("benchmark")
    rewrite(folder, lambda content: content["run"]["model"].update(name="resnet.py:build"))
    put_output(folder, "data:resnet.py", b"print('ran')")
    with pytest.raises(ImportRejected, match=r"resnet\.py"):
        store.import_run(folder)


def test_an_output_that_says_to_be_another_model(forged: Callable[[str], Path], store: Store) -> None:
    """The run is of one model, and brings bytes that it calls another one."""
    folder = forged("benchmark")
    put_output(folder, "model:plain", b"\x08\x07 other bytes", "b" * 64)
    with pytest.raises(ImportRejected, match="the hash does not match"):
        store.import_run(folder)


@pytest.fixture
def own(model: Path, tmp_path: Path, store: Store) -> Run:
    return benchmark(make_plan(str(model)), Workspace(QuickDevice(tmp_path), store, lambda text: None), {}).runs[0]


@pytest.mark.parametrize("imported", [True, None])
def test_a_store_that_already_has_imported_bytes(own: Run, tmp_path: Path, store: Store, imported: bool | None) -> None:
    """As runs that were imported by older versions may: the newest run of the model lies about its bytes."""
    assert own.model is not None
    lie = replace(own, id=new_run_id(), outputs=(), imported=imported, started_at="2099-01-01T00:00:00+00:00")
    lie = replace(lie, model=replace(own.model, name="resnet50.pt2"))
    store.begin(lie)
    output = store.put_bytes(lie.id, torch_archive(), role="model", model_id=own.model.sha256)
    store.finish(replace(lie, state="done", outputs=(output,)))
    assert find_run_with_file(own.model.sha256, store).id == own.id
    with pytest.raises(StoreError, match="belong to another model"):
        fetch_model(replace(lie, outputs=(output,)), store, tmp_path / "work")
    store.delete([own.id])
    with pytest.raises(StoreError, match="belong to another model"):
        find_run_with_file(own.model.sha256, store)


@pytest.mark.parametrize("imported", [True, None])
def test_an_artifact_that_is_not_of_this_machine_is_not_fetched(own: Run, imported: bool | None) -> None:
    assert own.model is not None
    artifact = replace(own, model=replace(own.model, format="ncnn"))
    assert get_stored_model(artifact).format == "ncnn"
    with pytest.raises(StoreError, match="only onnx, tflite can be restored"):
        get_stored_model(replace(artifact, imported=imported))


def test_weights_that_changed_places(tmp_path: Path, store: Store, own: Run) -> None:
    """The hash of a model with weight files does not have their names: the model itself is read again."""
    assert own.model is not None
    heavy = replace(own.model, data_files=("b", "a"), sha256=join_hashes([own.outputs[0].sha256, "b" * 64, "a" * 64]))
    lie = replace(own, id=new_run_id(), model=heavy, outputs=(), imported=True)
    store.begin(lie)
    outputs = [store.put_bytes(lie.id, name.encode(), role=f"data:{name}") for name in ("b", "a")]
    sha256 = join_hashes([own.outputs[0].sha256, *(one.sha256 for one in outputs)])
    lie = replace(
        lie, model=replace(heavy, sha256=sha256), outputs=(replace(own.outputs[0], model_id=sha256), *outputs)
    )
    with pytest.raises(StoreError, match="belong to another model"):
        fetch_model(lie, store, tmp_path)
    store.finish(replace(lie, state="failed"))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("m.onnx", "m.onnx"),
        ("mobilenet_v2-1.0.onnx", "mobilenet_v2-1.0.onnx"),
        ("größe.onnx", "größe.onnx"),
        ("resnet50.pt2", "resnet50.pt2.onnx"),
        ("resnet.py:build", "resnet.py_build.onnx"),
        ("-o.onnx", "o.onnx"),
        (".onnx", "model.onnx"),
        ("a b.onnx", "a_b.onnx"),
    ],
)
def test_a_model_from_the_record_has_a_name_of_ours(name: str, expected: str) -> None:
    assert make_file_name(replace(sample_model(name), name=name)) == expected


def test_a_model_from_the_record_is_the_one_that_was_measured(own: Run, tmp_path: Path, store: Store) -> None:
    assert own.model is not None
    (tmp_path / "work").mkdir()
    renamed = replace(own, model=replace(own.model, name="resnet50.pt2"))
    path = fetch_model(renamed, store, tmp_path / "work")
    assert path == tmp_path / "work/resnet50.pt2.onnx"
    assert path.read_bytes() == Path(own.model.path).read_bytes()


def test_a_run_is_repeated_from_an_export(kit: Path, tmp_path: Path, store: Store) -> None:
    """Which has no folders: the model comes from the record."""
    run_id = store.import_run(kit / "benchmark")
    assert str(kit).encode() not in (kit / "benchmark/run.json").read_bytes()
    again = rerun(run_id, Workspace(QuickDevice(tmp_path), store, lambda text: None)).outcome.runs[0]
    assert again.state == "done"
    assert not again.imported
    assert again.tags["rerun-of"] == run_id


def test_an_imported_run_stays_imported(forged: Callable[[str], Path], tmp_path: Path, store: Store) -> None:
    run_id = store.import_run(forged("benchmark"))
    store.export_run(run_id, tmp_path / "again")
    assert b"imported" not in (tmp_path / "again/run.json").read_bytes()
    rewrite(tmp_path / "again", lambda content: content["run"].update(imported=False, imported_at=None))
    with open_store(tmp_path / "elsewhere") as other:
        other.import_run(tmp_path / "again")
        assert other.load(run_id).imported
    assert [row.imported for row in store.list_runs()] == [True]
