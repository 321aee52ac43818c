"""Files of a work folder that a page offers, and rejection of all others."""

import os
import shutil
import socket
import zipfile
from collections.abc import Iterator
from contextlib import chdir, closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgewright.errors import UsageError
from edgewright.flows.demo.flow import get_digits_folder
from edgewright.flows.devices.names import DEVICES, open_device
from edgewright.schema.run import DeviceRecord
from edgewright.store.store import Store
from edgewright.web.jobs import choices
from edgewright.web.jobs.choices import check_links, list_offers
from edgewright.web.server.access import AccessRules
from tests.web.conftest import Pages, served
from tests.web.jobs.test_queue import wait_for
from tests.web.records import Record, make_run, measured

TASK = 'schema = "edgewright.task/1"\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with one file of each kind, and other files."""
    root = tmp_path / "work"
    (root / "deep" / "classes" / "cat").mkdir(parents=True)
    (root / "deep" / "classes" / "cat" / "1.PNG").write_bytes(b"")
    (root / "table").mkdir()
    (root / "table" / "labels.csv").write_text("file,label\n")
    (root / "empty").mkdir()
    (root / "task.toml").write_text(TASK)
    (root / "recipe.toml").write_text('schema = "edgewright.recipe/1"\n')
    (root / "other.toml").write_text("[project]\n")
    (root / "broken.toml").write_text("[[[")
    (root / "bytes.toml").write_bytes(b"\xff\xfe")
    (root / "odd.toml").write_text("schema = [1]\n")
    with zipfile.ZipFile(root / "set.zip", "w") as archive:
        archive.writestr("labels.csv", "file,label\n")
    np.savez(root / "d.npz", x=np.zeros(1))
    (root / "notes.txt").write_text("words")
    (root / ".hidden.npz").write_bytes(b"")
    (root / ".git").mkdir()
    (root / ".git" / "x.npz").write_bytes(b"")
    return root


def names(folder: Path) -> dict[str, list[str]]:
    return {shelf: sorted(one.title for one in found) for shelf, found in list_offers([folder]).items()}


def test_what_is_offered(folder: Path) -> None:
    assert names(folder) == {
        "tasks": ["task.toml"],
        "data": ["d.npz", "deep/classes", "set.zip", "table"],
        "recipes": ["recipe.toml"],
    }
    assert list_offers([folder]) == list_offers([folder])  # ids are stable between pages


def test_nothing_outside_is_offered(folder: Path, tmp_path: Path) -> None:
    before = names(folder)
    outside = tmp_path / "outside"
    shutil.copytree(folder, outside)
    for name in ("task.toml", "d.npz", "table", "set.zip", "recipe.toml"):
        (folder / f"link-{name}").symlink_to(outside / name)
    (folder / "up").symlink_to(tmp_path)
    (folder / "round").symlink_to(folder / "round")
    (folder / "gone.npz").symlink_to(folder / "nowhere")
    (folder / "labels.toml").write_text(TASK + '[output]\nlabels = "../outside/notes.txt"\n')
    (folder / "labels2.toml").write_text(TASK + '[output]\nlabels = "/etc/hostname"\n')
    assert names(folder) == before
    (folder / "own.npz").symlink_to(folder / "d.npz")
    (folder / "labels3.toml").write_text(TASK + '[output]\nlabels = "notes.txt"\n')
    assert names(folder) == {
        **before,
        "data": sorted([*before["data"], "own.npz"]),
        "tasks": ["labels3.toml", "task.toml"],
    }


def test_a_large_folder_is_looked_at_in_part(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for place in range(50):
        (folder / f"{place:03}.npz").write_bytes(b"")
    monkeypatch.setattr(choices, "MAX_OFFERED", 20)
    assert len(list_offers([folder])["data"]) == 20
    monkeypatch.setattr(choices, "MAX_SEEN", 10)
    assert len(list_offers([folder])["data"]) < 10


def test_a_dataset_outside_of_the_folder_is_rejected(folder: Path, tmp_path: Path) -> None:
    check_links(folder / "deep" / "classes", [folder])
    (folder / "deep" / "classes" / "cat" / "2.png").symlink_to(tmp_path / "work" / "notes.txt")
    check_links(folder / "deep" / "classes", [folder])
    (folder / "deep" / "classes" / "cat" / "3.png").symlink_to("/etc/hostname")
    with pytest.raises(UsageError, match="outside of the folder"):
        check_links(folder / "deep" / "classes", [folder])
    with pytest.raises(UsageError, match="outside of the folder"):
        check_links(tmp_path, [folder])


@pytest.fixture
def digits(store: Store, tmp_path: Path) -> Iterator[Pages]:
    """Store the demo's model, and put its task and data into a work folder."""
    root = tmp_path / "digits"
    root.mkdir()
    for name in ("task.toml", "calib.npz", "heldout.npz"):
        shutil.copy(get_digits_folder() / name, root / name)
    with served(store, tmp_path / "uploads", AccessRules(), work_folders=(root,)) as running:
        yield running


def bring(pages: Pages) -> str:
    content = (get_digits_folder() / "digits.onnx").read_bytes()
    result = pages.ask(
        "POST", "/models/upload?name=digits.onnx", content, content_type="application/octet-stream",
        x_csrf_token=pages.csrf,
    )  # fmt: skip
    upload: str = result.json()["upload"]
    return upload


def ids(root: Path) -> dict[str, str]:
    return {one.title: one.id for found in list_offers([root]).values() for one in found}


def finish(pages: Pages, fields: list[tuple[str, str]]) -> Any:
    address = pages.post("/work/start", fields).headers["location"]
    job = wait_for(lambda: (found := pages.get(f"{address}.json").json()["job"])["finished_at"] and found)
    assert job["state"] == "done", pages.get(f"{address}.json").json()["log"]
    return job


def test_quantize_and_evaluate_from_the_form(digits: Pages, tmp_path: Path) -> None:
    known, model = ids(tmp_path / "digits"), bring(digits)
    page = digits.get("/work?kind=quantize").text
    assert f'value="{known["calib.npz"]}"' in page
    assert str(tmp_path) not in page
    job = finish(
        digits,
        [
            ("kind", "quantize"), ("model", model), ("task", known["task.toml"]), ("data", known["calib.npz"]),
            ("eval_data", known["heldout.npz"]), ("samples", "32"), ("runtime", "onnxruntime"),
        ],
    )  # fmt: skip
    assert job["shown"].startswith("edgewright quantize digits.onnx -o artifacts --report --task task.toml ")
    quantized = next(run for run in map(digits.store.load, job["run_ids"]) if run.kind == "quantize")
    assert quantized.state == "done"
    assert digits.get(f"/runs/{quantized.id}").status == 200
    job = finish(
        digits,
        [
            ("kind", "evaluate"), ("model", model), ("task", known["task.toml"]), ("data", known["heldout.npz"]),
            ("samples", "20"), ("on", "local"),
        ],
    )  # fmt: skip
    (run_id,) = job["run_ids"]
    assert digits.store.load(run_id).kind == "evaluate"


def test_no_path_of_a_request_is_taken(digits: Pages, tmp_path: Path) -> None:
    known, model = ids(tmp_path / "digits"), bring(digits)
    for data in (str(tmp_path / "digits" / "calib.npz"), "calib.npz", "../digits/calib.npz", known["task.toml"], ""):
        fields = [("kind", "evaluate"), ("model", model), ("task", known["task.toml"]), ("data", data)]
        assert digits.post("/work/start", fields).status == 400, data
    assert digits.get("/work.json").json()["jobs"] == []


def test_without_a_work_folder_the_page_says_what_to_run(pages: Pages, store: Store, tmp_path: Path) -> None:
    model = store.load(measured(store, tmp_path)).model
    assert model is not None
    for kind in ("quantize", "evaluate"):
        assert "edgewright ui --work-folder DIR" in pages.get(f"/work?kind={kind}").text
        result = pages.post("/work/start", [("kind", kind), ("model", model.sha256), ("task", "x"), ("data", "x")])
        assert result.status == 400
        assert "--work-folder" in result.text
    assert "--work-folder" not in pages.get("/work").text


def test_an_empty_work_folder_shows_what_is_missing(store: Store, tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    with served(store, tmp_path / "uploads", AccessRules(), work_folders=(tmp_path / "nothing",)) as running:
        page = running.get("/work?kind=quantize").text
    assert "edgewright task init MODEL" in page
    assert "labels.csv" in page


def test_devices_are_those_of_the_command_line(pages: Pages, record: Record, store: Store) -> None:
    assert '<option value="local" selected>this machine</option>' in pages.get("/work").text
    assert 'value="pretend"' not in pages.get("/work").text
    pretend = DeviceRecord(id="pretend-0001", name="pretend", kind="pretend", address="usb:0", facts={})
    store.record([make_run(device=pretend)])
    assert '<option value="pretend">pretend, for tests</option>' in pages.get("/work").text


def test_every_device_that_is_offered_can_be_opened() -> None:
    for word in DEVICES:
        with closing(open_device(word)) as device:
            assert device.facts().kind == word


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no such files")
def test_what_is_no_file_is_never_opened(folder: Path) -> None:
    before = names(folder)
    for name in ("x.toml", "x.npz", "x.zip", "labels.txt"):
        os.mkfifo(folder / name)
    (folder / "device.toml").symlink_to("/dev/zero")
    (folder / "loop.toml").symlink_to(folder / "loop.toml")
    (folder / "large.toml").write_bytes(TASK.encode() + b"#" * (2 << 20))
    (folder / "piped.toml").write_text(f'{TASK}[output]\nlabels = "labels.txt"\n')
    with socket.socket(socket.AF_UNIX) as bound:
        with chdir(folder):  # the name of a socket must be short
            bound.bind("s.toml")
        assert names(folder) == before
    os.mkfifo(folder / "table" / "1.png")
    with pytest.raises(UsageError, match="cannot be used"):
        check_links(folder / "table", [folder])
