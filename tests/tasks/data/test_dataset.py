"""Datasets: all layouts, all errors, and never completely in memory."""

import io
import itertools
import os
import wave
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.errors import ConfigError, DataError
from edgewright.tasks.data import images
from edgewright.tasks.data.dataset import Dataset, open_dataset, split
from edgewright.tasks.data.feeding import make_feeds
from edgewright.tasks.data.images import UnreadableSample
from edgewright.tasks.metrics.samples import evaluate_samples
from edgewright.tasks.spec.file import Task
from edgewright.tasks.spec.functions import load_function
from edgewright.tasks.spec.task import (
    AudioInput,
    Boxes,
    Classification,
    ImageInput,
    NextToken,
    Regression,
    TensorInput,
    TokensInput,
)
from tests.tasks.data.image_files import ROWS, encode, noise

PICTURES = Task(inputs=(ImageInput(name="x", size=(4, 6), resize="exact"),), output=Classification())
THREE = Task(inputs=PICTURES.inputs, output=Classification(classes=3))
TENSORS = Task(inputs=(TensorInput(name="x"),), output=Classification(classes=3))


def picture(seed: int) -> bytes:
    return encode(noise(6, 4, seed))


def write_zip(path: Path, files: Mapping[str, Any], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def write_folder(path: Path, files: Mapping[str, Any]) -> Path:
    for name, data in files.items():
        file = path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def labels_of(data: Dataset) -> list[Any]:
    return [sample.label for sample in data.read()]


FILES: dict[str, Any] = {f"images/{i}.png": picture(i) for i in range(3)}
TABLE = "file,label\nimages/0.png,2\nimages/1.png,0\nimages/2.png,1\n"


@pytest.mark.parametrize("packed", [True, False])
def test_files_with_a_table(tmp_path: Path, packed: bool) -> None:
    files = {**FILES, "labels.csv": TABLE, "images/extra.png": picture(9), "__MACOSX/._0.png": b"x", "notes.txt": "x"}
    path = write_zip(tmp_path / "d.zip", files) if packed else write_folder(tmp_path / "d", files)
    with open_dataset(str(path), PICTURES) as data:
        samples = list(data.read())
        assert [(s.index, s.name, s.label) for s in samples] == [
            (0, "images/0.png", 2),
            (1, "images/1.png", 0),
            (2, "images/2.png", 1),
        ]
        expected = np.asarray(noise(6, 4, 1)).transpose(2, 0, 1)[None].astype(np.float32)
        assert np.array_equal(samples[1].feeds["x"], expected)
        assert data.notes == ("1 files have no row in labels.csv and are ignored",)
        assert data.labeled
        assert [s.index for s in data.read([2, 0, 2])] == [2, 0, 2]
        assert data.fingerprint
        with pytest.raises(DataError, match="no sample 3"):
            list(data.read([3]))


@pytest.mark.parametrize(
    "table",
    [
        "\ufefffile,label\r\nimages/0.png,2\r\nimages/1.png,0\r\nimages/2.png,1\r\n",
        "images/0.png,2\nimages/1.png,0\nimages/2.png,1",
        "class;filename\n2;images/0.png\n0;images/1.png\n1;images/2.png\n",
        "filename\tother\tlabel\nimages/0.png\tz\t2\nimages/1.png\tz\t0\nimages/2.png\tz\t1\n",
        'Image,Category\n"images\\0.png","2"\n./images/1.png, 0\n\nimages/2.png,1\n\n',
        "file,label\nimages/0.png,2\nimages/1.png,0\nimages/2.png,1\nimages/2.png,1\n",
    ],
)
def test_every_way_of_writing_a_table(tmp_path: Path, table: str) -> None:
    with open_dataset(str(write_zip(tmp_path / "d.zip", {**FILES, "labels.csv": table})), PICTURES) as data:
        assert labels_of(data) == [2, 0, 1]


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("file,label\nimages/0.png,3\n", "line 2: the label 3 is out of range"),
        ("file,label\nimages/0.png,-1\n", "line 2: the label -1 is out of range"),
        ("file,label\nimages/0.png,0\nimages/1.png,\n", "line 3: images/1.png has no label"),
        ("file,label\nimages/0.png\n", "line 2: images/0.png has no label"),
        ("file,label\nimages/0.png,0\nimages/0.png,1\n", "line 3: images/0.png has two labels"),
        ("file,label\n,0\n", "line 2 has no file name"),
        ("file,label\n../0.png,0\n", "line 2: the path is outside the dataset"),
        ("file,label\n/etc/passwd,0\n", "line 2: the path is outside the dataset"),
        ("file,label\nC:\\x.png,0\n", "line 2: the path is outside the dataset"),
        ("file,label\n", "has no rows"),
        ("", "has no rows"),
        ("file,label\nother.png,0\n", "lists no file of the dataset"),
        ('file,label\n"images/0.png,0\n', "cannot be read"),
        (b"file,label\n\xff.png,0\n", "is not UTF-8"),
    ],
)
@pytest.mark.parametrize("packed", [True, False])
def test_what_is_wrong_in_a_table(tmp_path: Path, table: Any, words: str, packed: bool) -> None:
    files = {**FILES, "labels.csv": table}
    path = write_zip(tmp_path / "d.zip", files) if packed else write_folder(tmp_path / "d", files)
    with pytest.raises(DataError) as caught:
        open_dataset(str(path), THREE)
    assert words in caught.value.what
    assert caught.value.try_this


def named(tmp_path: Path, *names: str) -> Task:
    (tmp_path / "names.txt").write_text("\n".join(names))
    return Task(inputs=PICTURES.inputs, output=Classification(labels=str(tmp_path / "names.txt")))


def test_labels_by_name(tmp_path: Path) -> None:
    files = {**FILES, "labels.csv": "file,label\nimages/0.png,dog\nimages/1.png,cat\nimages/2.png,1\n"}
    path = str(write_zip(tmp_path / "d.zip", files))
    with open_dataset(path, named(tmp_path, "owl", "cat", "dog")) as data:
        assert labels_of(data) == [2, 1, 1]
    with pytest.raises(DataError, match="the class 'dog' does not exist"):
        open_dataset(path, named(tmp_path, "owl", "cat"))
    files["labels.csv"] = "file,label\nimages/0.png,dog\nimages/1.png,cat\nimages/2.png,dog\n"
    with open_dataset(str(write_zip(tmp_path / "d.zip", files)), PICTURES) as data:
        assert labels_of(data) == [1, 0, 1]  # sorted names where the task has none


@pytest.mark.parametrize("packed", [True, False])
def test_one_folder_for_each_class(tmp_path: Path, packed: bool) -> None:
    files = {"dog/a.png": picture(0), "cat/b.png": picture(1), "dog/deep/c.PNG": picture(2), "readme.txt": "x"}
    rooted = {f"root/{name}": data for name, data in files.items()} if packed else files
    path = write_zip(tmp_path / "d.zip", rooted) if packed else write_folder(tmp_path / "d", files)
    with open_dataset(str(path), PICTURES) as data:
        assert [(s.name, s.label) for s in data.read()] == [("cat/b.png", 0), ("dog/a.png", 1), ("dog/deep/c.PNG", 1)]
    with open_dataset(str(path), named(tmp_path, "owl", "dog", "cat")) as data:
        assert labels_of(data) == [2, 1, 1]
    with pytest.raises(DataError, match="2 class folders"):
        open_dataset(str(path), THREE)
    with pytest.raises(DataError, match="'cat' is not a class"):
        open_dataset(str(path), named(tmp_path, "owl", "dog"))


def test_one_folder_is_no_class_but_labels_that_are_missing(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "d.zip", FILES)
    for task in (THREE, named(tmp_path, "owl", "dog")):
        with pytest.raises(DataError, match="has no labels") as caught:
            open_dataset(str(path), task)
        assert "it has no labels.csv, and its only folder 'images'" in caught.value.why


def test_folders_with_numbers(tmp_path: Path) -> None:
    path = write_folder(tmp_path / "d", {"10/a.png": picture(0), "2/b.png": picture(1)})
    with open_dataset(str(path), PICTURES) as data:
        assert labels_of(data) == [10, 2]
    with pytest.raises(DataError, match="is not a class"):
        open_dataset(str(path), THREE)


def test_pictures_without_labels_serve_calibration(tmp_path: Path) -> None:
    with open_dataset(str(write_folder(tmp_path / "d", {"a.png": picture(0), "b.png": picture(1)})), PICTURES) as data:
        assert labels_of(data) == [None, None]
        assert not data.labeled
        assert data.notes == ("there are no labels",)


def test_data_sets_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.txt").write_text("x")
    (tmp_path / "short.zip").write_bytes(write_zip(tmp_path / "d.zip", FILES).read_bytes()[:-30])
    for name, words in (
        ("empty", "has no samples"),
        ("file.txt", "is not a dataset"),
        ("short.zip", "not a complete zip"),
        ("absent", "dataset does not exist"),
        ("absent.py:load", "file does not exist"),
        ("no.such.module:load", "cannot be loaded"),
    ):
        spec = name if ":" in name and not name.startswith("absent") else str(tmp_path / name)
        with pytest.raises((DataError, ConfigError), match=words) as caught:
            open_dataset(spec, PICTURES, (spec,))
        assert caught.value.exit_code == 2
    with pytest.raises(DataError, match="has no samples"):
        open_dataset(str(write_zip(tmp_path / "e.zip", {})), PICTURES)


def test_archives_that_lead_out_or_are_bombs(tmp_path: Path) -> None:
    for bad in ("../../evil.png", "/evil.png"):
        with pytest.raises(DataError, match="outside"):
            open_dataset(str(write_zip(tmp_path / "d.zip", {**FILES, bad: b"x"})), PICTURES)
    bomb = write_zip(tmp_path / "b.zip", {**FILES, "images/1.png": b"\0" * 50_000_000, "labels.csv": TABLE})
    with open_dataset(str(bomb), PICTURES) as data, pytest.raises(DataError, match="1 of 3 samples") as caught:
        list(data.read())
    assert "zip bomb" in caught.value.why
    table = write_zip(tmp_path / "t.zip", {**FILES, "labels.csv": b"a" * 50_000_000})
    with pytest.raises(DataError, match=r"labels\.csv cannot be read"):
        open_dataset(str(table), PICTURES)


def test_a_damaged_member_is_one_unreadable_sample(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "d.zip", {**FILES, "labels.csv": TABLE}, zipfile.ZIP_STORED)
    whole = path.read_bytes()
    place = whole.index(FILES["images/1.png"]) + 40
    path.write_bytes(whole[:place] + b"\xff\xff\xff" + whole[place + 3 :])
    with open_dataset(str(path), PICTURES) as data, pytest.raises(DataError, match="1 of 3 samples"):
        list(data.read())


def many(tmp_path: Path, bad: int, count: int = 200) -> Path:
    good = picture(0)
    files = {f"{i}.png": b"broken" if i < bad else good for i in range(count)}
    rows = "".join(f"{i}.png,{i % 3}\n" for i in range(count))
    return write_zip(tmp_path / "many.zip", {**files, "labels.csv": rows})


def test_one_in_a_hundred_is_skipped_and_counted(tmp_path: Path) -> None:
    with open_dataset(str(many(tmp_path, 2)), PICTURES) as data:
        assert len(list(data.read())) == 198
        assert {index: one.name for index, one in data.skipped.items()} == {0: "0.png", 1: "1.png"}
        assert "format is not supported" in data.skipped[0].why
        assert len(list(data.read(range(50, 60)))) == 10


def test_more_than_one_in_a_hundred_is_an_error(tmp_path: Path) -> None:
    with open_dataset(str(many(tmp_path, 3)), PICTURES) as data:
        with pytest.raises(DataError, match="3 of 200 samples cannot be read") as caught:
            list(data.read())
        assert "0.png: its image format is not supported" in caught.value.why


def test_a_missing_file_is_skipped(tmp_path: Path) -> None:
    path = many(tmp_path, 0)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("labels2.csv", "")
    files = {f"{i}.png": picture(0) for i in range(1, 200)}
    rows = "".join(f"{i}.png,0\n" for i in range(200))
    for place in (
        write_zip(tmp_path / "m.zip", {**files, "labels.csv": rows}),
        write_folder(tmp_path / "m", {**files, "labels.csv": rows}),
    ):
        with open_dataset(str(place), PICTURES) as data:
            assert len(list(data.read())) == 199
            assert list(data.skipped) == [0]


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays(tmp_path: Path, save: Any) -> None:
    values = np.random.default_rng(0).integers(0, 256, (5, 4, 6, 3), dtype=np.uint8)
    save(tmp_path / "d.npz", images=values, labels=np.arange(5, dtype=np.uint8) % 3)
    with open_dataset(str(tmp_path / "d.npz"), THREE) as data:
        samples = list(data.read([4, 0]))
        assert [s.label for s in samples] == [1, 0]
        assert np.array_equal(samples[0].feeds["x"][0], values[4].transpose(2, 0, 1).astype(np.float32))
        assert samples[0].name == "#4"


def test_arrays_that_are_ready(tmp_path: Path) -> None:
    ready = np.random.default_rng(0).standard_normal((4, 3, 4, 6)).astype(np.float32)
    np.savez(tmp_path / "d.npz", x=np.asfortranarray(ready), y=np.zeros(4, np.int64))
    with open_dataset(str(tmp_path / "d.npz"), THREE) as data:
        assert np.array_equal(next(data.read([3])).feeds["x"][0], ready[3])
    task = Task(inputs=(TensorInput(name="a", shape=(1, 2)), TensorInput(name="b")), output=Regression(), metric="mae")
    a, b = np.arange(6.0).reshape(3, 2), np.arange(3.0)
    np.savez(tmp_path / "t.npz", a=a, b=b.astype(np.float32), labels=np.array([0.5, 1.5, 2.5]))
    with open_dataset(str(tmp_path / "t.npz"), task) as data:
        sample = next(data.read([2]))
        assert sample.feeds["a"].tolist() == [[4.0, 5.0]]
        assert sample.feeds["a"].dtype == np.float32
        assert sample.feeds["b"].tolist() == [2.0]
        assert np.array_equal(np.asarray(sample.label), [2.5])


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"x": np.zeros((2, 4, 6), np.uint8), "labels": np.array([0, 3])}, "label 1: the label 3 is out of range"),
        ({"x": np.zeros((2, 4, 6), np.uint8), "labels": np.array([0, -1])}, "the label -1"),
        ({"x": np.zeros((2, 4, 6), np.uint8), "labels": np.array([0.5, 1])}, "the labels have dtype float64"),
        ({"x": np.zeros((2, 4, 6), np.uint8), "labels": np.eye(2)}, "the labels have shape"),
        ({"x": np.zeros((2, 4, 6), np.uint8), "labels": np.zeros(3, int)}, "different lengths"),
        ({"a": np.zeros(2), "b": np.zeros(2), "labels": np.zeros(2, int)}, "has no array for the input 'x'"),
        ({"x": np.zeros((0, 4, 6), np.uint8), "labels": np.zeros(0, int)}, "is empty"),
        ({"x": np.array([{}, {}], object), "labels": np.zeros(2, int)}, "cannot be read as .npz"),
    ],
)
def test_what_is_wrong_with_arrays(tmp_path: Path, arrays: dict[str, Any], words: str) -> None:
    np.savez(tmp_path / "d.npz", **arrays)
    with pytest.raises(DataError, match=words):
        open_dataset(str(tmp_path / "d.npz"), THREE)


def test_arrays_of_the_wrong_shape_or_with_nan(tmp_path: Path) -> None:
    ready = np.zeros((2, 4, 6, 3), np.float32)
    np.savez(tmp_path / "d.npz", x=ready, labels=np.zeros(2, int))
    with open_dataset(str(tmp_path / "d.npz"), THREE) as data, pytest.raises(DataError) as caught:
        list(data.read())
    assert "the task requires [1, 3, 4, 6]" in caught.value.why
    np.savez(tmp_path / "d.npz", x=np.full((2, 3, 4, 6), np.nan, np.float32), labels=np.zeros(2, int))
    with open_dataset(str(tmp_path / "d.npz"), THREE) as data, pytest.raises(DataError) as caught:
        list(data.read())
    assert "NaN" in caught.value.why


def test_a_truncated_npz(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=np.zeros((2, 4, 6), np.uint8))
    whole = (tmp_path / "d.npz").read_bytes()
    for end in (0, 10, len(whole) - 10):
        (tmp_path / "e.npz").write_bytes(whole[:end])
        with pytest.raises(DataError, match=r"cannot be read as \.npz"):
            open_dataset(str(tmp_path / "e.npz"), THREE)


FUNCTION = """
import numpy as np
def load():
    return [(np.full((4, 6), i, np.uint8), i % 3) for i in range(4)]
def bare():
    return [{"x": np.full((4, 6), i, np.uint8)} for i in range(4)]
def endless():
    return iter(range(3))
def broken():
    raise ValueError("no disk")
asked = []
class Counted:
    def __len__(self): return 3
    def __getitem__(self, i):
        asked.append(i)
        return np.zeros((4, 6), np.uint8), i
def counted():
    return Counted()
class Late:
    def __len__(self): return 3
    def __getitem__(self, i): raise OSError("gone")
def late():
    return Late()
"""


def open_own(spec: str, task: Task = THREE) -> Dataset:
    """The dataset of a function that the user allowed."""
    return open_dataset(spec, task, (spec,))


def test_functions(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(FUNCTION)
    with open_own(f"{file}:load") as data:
        assert (len(data), labels_of(data)) == (4, [0, 1, 2, 0])
        assert (next(data.read([3])).feeds["x"] == 3).all()
    with open_own(f"{file}:counted") as data:
        assert len(list(data.read())) == 3
        assert load_function(f"{file}:counted", (f"{file}:counted",)).__globals__["asked"] == [
            0,
            1,
            2,
        ]  # each sample is made once
    with open_own(f"{file}:bare") as data:
        assert not data.labeled
    for name in ("endless", "broken", "late"):
        with pytest.raises(DataError, match="returns no dataset"):
            open_own(f"{file}:{name}")
    with pytest.raises(ConfigError, match="is not a function"):
        open_own(f"{file}:nobody")


def test_a_module_of_the_current_folder_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lurking.py").write_text("raise SystemExit('it ran')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [entry for entry in __import__("sys").path if entry])
    with pytest.raises(ConfigError, match="cannot be loaded"):
        open_own("lurking:load")


def wav(values: np.ndarray, rate: int = 8000, width: int = 2, channels: int = 1) -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(values.tobytes())
    return out.getvalue()


def test_reading_a_sound_ends_at_the_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    task = Task(inputs=(AudioInput(name="s", sample_rate=8000, window=6),), output=Classification())
    clock = itertools.count(0, 40)
    monkeypatch.setattr(images, "monotonic", lambda: next(clock))
    monkeypatch.setenv("EDGEWRIGHT_TIME_LIMIT", "30")
    with pytest.raises(UnreadableSample, match="takes over 30 s, the time limit"):
        make_feeds(wav(np.zeros(8, "<i2")), task)


def test_sounds(tmp_path: Path) -> None:
    one = AudioInput(name="s", sample_rate=8000, window=6, shape=(1, 6, 1), scale=2.0)
    task = Task(inputs=(one,), output=Classification())
    low = np.array([16384, -32768, 0, 8192], "<i2")
    stereo = np.array([[16384, 1], [-32768, 2], [0, 3], [8192, 4]], "<i2")
    eight = np.array([192, 0, 128, 160], np.uint8)
    deep = np.array([[0, 0, 64], [0, 0, 128], [0, 0, 0], [0, 0, 32]], np.uint8)
    files = {
        "a/1.wav": wav(low),
        "a/2.wav": wav(stereo, channels=2),
        "a/3.wav": wav(eight, width=1),
        "a/4.wav": wav(deep, width=3),
    }
    with open_dataset(str(write_folder(tmp_path / "d", files)), task) as data:
        for sample in data.read():
            assert sample.feeds["s"].shape == (1, 6, 1)
            assert sample.feeds["s"].ravel().tolist() == [1.0, -2.0, 0.0, 0.5, 0.0, 0.0], sample.name
    streamed = wav(low).replace((8).to_bytes(4, "little") + low.tobytes(), b"\xff" * 4 + low.tobytes())
    with open_dataset(str(write_folder(tmp_path / "s", {"a/1.wav": streamed})), task) as data:
        assert next(iter(data.read())).feeds["s"].ravel().tolist()[:4] == [1.0, -2.0, 0.0, 0.5]
    short, empty = (wav(low)[:-3], "truncated"), (wav(low[:0]), "no samples")
    for bad, words in (
        (wav(low, rate=16000), "sample rate is 16000"),
        short,
        empty,
        (b"RIFF....", ""),
        (b"text", ""),
    ):
        with open_dataset(str(write_folder(tmp_path / "e", {"a/1.wav": bad})), task) as data:
            with pytest.raises(DataError) as caught:
                list(data.read())
            assert words in caught.value.why


def test_sounds_are_cut_where_the_task_says(tmp_path: Path) -> None:
    files = {"a/1.wav": wav(np.arange(8, dtype="<i2") * 4096), "a/2.wav": wav(np.array([4096], "<i2"))}
    path = str(write_folder(tmp_path / "d", files))
    for align, first, second in (("start", [0, 1, 2], [1, 0, 0]), ("center", [2, 3, 4], [0, 1, 0])):
        one = AudioInput(name="s", sample_rate=8000, window=3, align=align, std=0.125)  # type: ignore[arg-type]
        with open_dataset(path, Task(inputs=(one,), output=Classification())) as data:
            assert [s.feeds["s"][0].tolist() for s in data.read()] == [first, second]


def test_token_ids(tmp_path: Path) -> None:
    one = TokensInput(name="ids", length=4, pad=9, mask="m", segments="t", dtype="int32")
    task = Task(inputs=(one,), output=NextToken(), metric="perplexity")
    ids = [np.array([5, 6, 7]), np.array([1, 2, 3, 4, 5]), np.array([[8]])]
    files = {}
    for number, row in enumerate(ids):
        out = io.BytesIO()
        np.save(out, row)
        files[f"{number}.npy"] = out.getvalue()
    with open_dataset(str(write_folder(tmp_path / "d", files)), task) as data:
        assert data.labeled
        first, second, third = data.read()
    assert first.feeds["ids"].tolist() == [[5, 6, 7, 9]]
    assert first.feeds["m"].tolist() == [[1, 1, 1, 0]]
    assert first.feeds["t"].tolist() == [[0, 0, 0, 0]]
    assert first.feeds["ids"].dtype == first.feeds["m"].dtype == np.int32
    assert np.asarray(first.label).tolist() == [6, 7, -100, -100]
    assert np.asarray(second.label).tolist() == [2, 3, 4, -100]
    assert third.feeds["ids"].tolist() == [[8, 9, 9, 9]]


def test_boxes_move_with_the_picture(tmp_path: Path) -> None:
    one = ImageInput(name="x", size=(50, 50), resize="pad")
    task = Task(inputs=(one,), output=Boxes(classes=4), metric="map")
    table = "file,label,left,top,right,bottom\na.png,3,10,0,110,100\na.png,1,0,0,200,100\nb.png,,,,,\n"
    files = {"a.png": encode(noise(200, 100)), "b.png": encode(noise(8, 8)), "labels.csv": table}
    with open_dataset(str(write_folder(tmp_path / "d", files)), task) as data:
        first, second = data.read()
    assert np.asarray(first.label).tolist() == [[3, 2.5, 12, 27.5, 37], [1, 0, 12, 50, 37]]
    assert np.asarray(second.label).shape == (0, 5)
    cropped = ImageInput(name="x", size=(100, 100), resize="none")
    with open_dataset(str(tmp_path / "d"), Task(inputs=(cropped,), output=Boxes(), metric="map")) as data:
        label = np.asarray(next(data.read([0])).label)
        assert label.tolist() == [[3, 0, 0, 60, 100], [1, 0, 0, 100, 100]]
    for row, words in (
        ("a.png,1,5,5,5,9", "the box is empty"),
        ("a.png,1,5,5", "has no box"),
        ("a.png,9,1,1,2,2", "out of range"),
    ):
        bad = {**files, "labels.csv": f"file,label,left,top,right,bottom\n{row}\n"}
        with pytest.raises(DataError, match=words):
            open_dataset(str(write_folder(tmp_path / "e", bad)), task)


def test_numbers_as_labels(tmp_path: Path) -> None:
    task = Task(inputs=PICTURES.inputs, output=Regression(), metric="mae")
    files = {"a.png": picture(0), "b.png": picture(1), "labels.csv": "file,x,y\na.png,1.5,2\nb.png,-3,4e2\n"}
    with open_dataset(str(write_folder(tmp_path / "d", files)), task) as data:
        assert [np.asarray(label).tolist() for label in labels_of(data)] == [[1.5, 2.0], [-3.0, 400.0]]
    for bad in ("a.png,big", "a.png,nan"):
        with pytest.raises(DataError, match="line 2"):
            open_dataset(str(write_folder(tmp_path / "e", {**files, "labels.csv": f"file,x\n{bad}\n"})), task)


def test_text_as_labels_for_a_metric_of_ones_own(tmp_path: Path) -> None:
    task = Task(inputs=PICTURES.inputs, output=Regression(), metric="own.py:distance")
    files = {"a.png": picture(0), "b.png": picture(1), "labels.csv": "file,text\na.png,stop\nb.png,exit 7\n"}
    with open_dataset(str(write_folder(tmp_path / "d", files)), task) as data:
        assert labels_of(data) == ["stop", "exit 7"]
    vectors = Task(inputs=(TensorInput(name="x", shape=(1, 2)),), output=Regression(), metric="own.py:distance")
    np.savez(tmp_path / "t.npz", x=np.zeros((2, 2), np.float32), labels=np.array(["stop", "exit 7"]))
    with open_dataset(str(tmp_path / "t.npz"), vectors) as data:
        assert labels_of(data) == ["stop", "exit 7"]
    (tmp_path / "own.py").write_text(
        "import numpy as np\ndef data(): return [(np.zeros((1, 2), np.float32), 'stop')]\n"
    )
    function = f"{tmp_path / 'own.py'}:data"
    with open_dataset(function, vectors, (function,)) as data:
        (sample,) = data.read([0])
        assert sample.label == "stop"
        with pytest.raises(DataError, match="'stop' is text"):
            evaluate_samples(msgspec.structs.replace(vectors, metric="mae"), {"y": np.zeros((1, 1))}, [sample.label])


def test_the_split_is_known() -> None:
    """Golden: the choice must never change, since what was calibrated on must stay out of every later evaluation."""
    chosen, rest = split(500, 100, 0)
    assert chosen[:12] == [7, 15, 18, 20, 25, 36, 44, 46, 57, 61, 63, 69]
    assert split(20, 6, 7)[0] == [3, 4, 7, 8, 12, 18]
    assert len(chosen) == 100
    assert len(rest) == 400
    assert sorted(chosen + rest) == list(range(500))
    with pytest.raises(DataError):
        split(5, 6, 0)


@given(n=st.integers(0, 60), seed=st.integers(0, 5), data=st.data())
def test_a_larger_choice_only_adds(n: int, seed: int, data: Any) -> None:
    samples = data.draw(st.integers(0, n))
    chosen, rest = split(n, samples, seed)
    assert len(chosen) == samples
    assert sorted(chosen + rest) == list(range(n))
    if samples < n:
        assert set(chosen) < set(split(n, samples + 1, seed)[0])


def test_an_array_is_not_read_as_a_whole(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=np.stack([ROWS] * 10), labels=np.zeros(10, int))
    with open_dataset(str(tmp_path / "d.npz"), PICTURES) as data:
        held = data._entries.fetch.__closure__
        arrays = [cell.cell_contents for cell in held or () if isinstance(cell.cell_contents, dict)]
        assert isinstance(arrays[0]["x"], np.memmap)


MISBEHAVING = """
import sys
class Items(list):
    def __getitem__(self, index):
        return deeper(index) if index == self.bad else list.__getitem__(self, index)
def deeper(index):
    return deeper(index)
def recursion():
    return deeper(0)
def leaves():
    sys.exit(0)
def raises():
    raise RuntimeError("x" * 10_000)
def odd(value):
    made = Items([([0.0], 0)] * 300)
    made.bad = 7
    made[9] = value
    return made
def one_odd():
    return odd(([[1], [1, 2]], 0))
def one_label():
    return odd(([0.0], [[1], [1, 2]]))
"""


def test_functions_that_misbehave(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(MISBEHAVING)
    for name in ("recursion", "leaves", "raises"):
        with pytest.raises(DataError, match="returns no dataset") as caught:
            open_own(f"{file}:{name}")
        assert len(caught.value.why) <= 500
    for name in ("one_odd", "one_label"):
        with open_own(f"{file}:{name}", TENSORS) as data:
            assert len(list(data.read())) == 298
            assert list(data.skipped) == [7, 9]
            with pytest.raises(DataError, match="returns no label for #7"):
                data.label(7)
    (tmp_path / "leaves.py").write_text("raise SystemExit(0)\n")
    with pytest.raises(ConfigError, match="cannot be loaded"):
        open_own(f"{tmp_path}/leaves.py:f")


def test_a_function_that_nobody_allowed(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("raise SystemExit('it ran')\n")
    for code in ((), ("other.py:load", f"{tmp_path}/mine.py")):
        with pytest.raises(ConfigError, match="not allowed to run"):
            open_dataset(f"{tmp_path}/mine.py:load", THREE, code)


def test_files_that_are_no_samples(tmp_path: Path) -> None:
    files = {f"{number}.png": picture(0) for number in range(200)}
    table = "file,label\nfifo.png,0\n" + "".join(f"{name},0\n" for name in files)
    folder = write_folder(tmp_path / "d", {**files, "labels.csv": table.encode()})
    os.mkfifo(folder / "fifo.png")
    with open_dataset(str(folder), PICTURES) as data:
        assert len(list(data.read())) == 200
        assert [one.why for one in data.skipped.values()] == ["it is not a regular file"]
    (folder / "labels.csv").unlink()
    os.mkfifo(folder / "labels.csv")
    with pytest.raises(DataError, match="not a regular file"):
        open_dataset(str(folder), PICTURES)
    (folder / "labels.csv").unlink()
    (folder / "\udcff.png").write_bytes(picture(0))
    with pytest.raises(DataError, match="whose name is not UTF-8"):
        open_dataset(str(folder), PICTURES)


def test_a_damaged_npz(tmp_path: Path) -> None:
    path = tmp_path / "d.npz"
    np.savez(path, x=np.ones((40, 8), np.float32), labels=np.zeros(40, int))
    whole = bytearray(path.read_bytes())
    whole[400] ^= 0x40
    path.write_bytes(whole)
    with pytest.raises(DataError, match=r"d\.npz cannot be read as \.npz: .* is damaged"):
        open_dataset(str(path), TENSORS)


@pytest.mark.parametrize("packing", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_archives_that_are_damaged(tmp_path: Path, packing: int) -> None:
    path = tmp_path / "d.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(200):
            archive.writestr(f"{number % 3}/{number}.png", picture(number % 5))
        archive.writestr("0/last.png", picture(5), packing)
    whole = path.read_bytes()
    start = whole.rindex(b"0/last.png", 0, whole.index(b"PK\x01\x02")) + len("0/last.png")
    path.write_bytes(whole[: start + 12] + b"\xff" * 6 + whole[start + 18 :])
    with open_dataset(str(path), PICTURES) as data:
        assert len(list(data.read())) == 200
        assert [one.name for one in data.skipped.values()] == ["0/last.png"]


def test_a_member_without_a_name(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "d.zip", FILES)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("#", b"x")
    path.write_bytes(path.read_bytes().replace(b"#", b"\0"))
    with open_dataset(str(path), PICTURES) as data:
        assert len(data) == len(FILES)
