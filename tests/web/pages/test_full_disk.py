"""Reports, sites, tasks and exports on a full disk: existing files stay, and no partial files are left."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgewright.errors import EdgewrightError, OutputError
from edgewright.flows.evaluate.invoke import save_outputs
from edgewright.flows.tasks.flow import save_task
from edgewright.store.store import Store
from edgewright.system.files import write_atomically
from edgewright.web.pages.reports import render_one_file, write_layers, write_site
from tests.web.records import Record, make_run


def fill_up(folder: Path) -> None:
    (folder / "filler").write_bytes(bytes(60 << 10))


def test_files_on_a_full_disk(tiny_disk: Path, store: Store) -> None:
    run = make_run(layers=300)
    store.record([run])
    old = tiny_disk / "old"
    old.write_text("of yesterday")
    fill_up(tiny_disk)
    before = sorted(path.name for path in tiny_disk.iterdir())
    arrays = {"x": np.zeros(100_000)}
    writers: list[Callable[[], None]] = [
        lambda: write_atomically(old, render_one_file([run], store)),
        lambda: write_layers("csv", old, run),
        lambda: write_layers("chrome_trace", old, run),
        lambda: write_layers("model_explorer", old, run),
        lambda: save_task(old, "# a task\n" * 10_000, force=True),
        lambda: save_outputs(old, arrays),
    ]
    for write in writers:
        with pytest.raises(OutputError, match="old cannot be written"):
            write()
        assert old.read_text() == "of yesterday"
        assert sorted(path.name for path in tiny_disk.iterdir()) == before


@pytest.mark.parametrize("is_there", [False, True])
def test_folders_on_a_full_disk(tiny_disk: Path, store: Store, record: Record, is_there: bool) -> None:
    folder = tiny_disk / "new"
    if is_there:
        folder.mkdir()
    fill_up(tiny_disk)
    before = sorted(path.name for path in tiny_disk.rglob("*"))
    for write in (lambda: write_site(folder, [], store), lambda: store.export_run(record.first.id, folder)):
        with pytest.raises(EdgewrightError) as error:
            write()
        assert error.value.exit_code == 1
        assert "No space left" in error.value.why
        assert sorted(path.name for path in tiny_disk.rglob("*")) == before


def test_a_page_that_fails_leaves_no_half_site(
    tmp_path: Path, store: Store, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object) -> str:
        raise ZeroDivisionError

    monkeypatch.setattr("edgewright.web.pages.reports.render_run", fail)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ZeroDivisionError):
        write_site(tmp_path / "site", [], store)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("is_there", [False, True])
def test_a_site_appears_whole(tmp_path: Path, store: Store, record: Record, is_there: bool) -> None:
    if is_there:
        (tmp_path / "site").mkdir()
    write_site(tmp_path / "site", [], store)
    assert (tmp_path / "site" / "index.html").is_file()
    assert not list((tmp_path / "site").glob(".*"))
    assert not list(tmp_path.glob(".*"))
