"""Task files: read, written, and what is said of a wrong one."""

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.errors import ConfigError
from edgewright.schema.model import Quantization, Signature, TensorSpec
from edgewright.tasks.spec.file import Task, parse_task, propose_task, read_task, write_task
from edgewright.tasks.spec.task import (
    AudioInput,
    Augment,
    Boxes,
    Classification,
    Embedding,
    ImageInput,
    NextToken,
    Regression,
    TensorInput,
    TokensInput,
    read_label_names,
)

PICTURE = ImageInput(name="x", size=(224, 224), resize_to=256, mean=(1.0, 2.0, 3.5), std=127.5)
TASKS = [
    Task(name="pictures", inputs=(PICTURE,), output=Classification(classes=10, first_class=1), metric="top5"),
    Task(inputs=(TensorInput(name="a", shape=(1, 3)), TensorInput(name="b")), output=Regression(), metric="mae"),
    Task(
        inputs=(AudioInput(name="s", sample_rate=16_000, window=16_000, shape=(1, 16_000, 1)),),
        output=Embedding(name="e"),
    ),
    Task(inputs=(TokensInput(name="ids", length=8, mask="m", segments="t"),), output=NextToken(), metric="perplexity"),
    Task(inputs=(PICTURE,), output=Boxes(boxes="b", scores="s", format="cxcywh", columns=True), metric="map50"),
    Task(inputs=(PICTURE,), output=Boxes(), metric="my.py:score", better="lower"),
    Task(inputs=(PICTURE,), output=Classification(), augment=Augment(flip=True, shift=4, erase=0.25, contrast=0.1)),
]
TEXT = write_task(TASKS[0])


@pytest.mark.parametrize("task", TASKS)
def test_what_is_written_is_read_again(task: Task) -> None:
    assert parse_task(write_task(task)) == task


@given(
    name=st.text(max_size=30),
    mean=st.floats(allow_nan=False, allow_infinity=False),
    std=st.floats(min_value=1e-300, allow_nan=False, allow_infinity=False),
    pad=st.integers(0, 255),
)
def test_any_text_and_number_is_read_again(name: str, mean: float, std: float, pad: int) -> None:
    if any(0xD800 <= ord(char) <= 0xDFFF for char in name):
        return
    one = ImageInput(name="x" + name, size=(3, 4), mean=mean, std=(std, std, std), resize="pad", pad_value=pad)
    task = Task(name=name, inputs=(one,), output=Classification())
    assert parse_task(write_task(task)) == task


@pytest.mark.parametrize(
    ("change", "line", "words"),
    [
        (("crop =", "corp ="), 13, ("inputs[0].corp", "the keys are kind, name, size", "crop")),
        (('crop = "center"', 'crop = "centre"'), 13, ("inputs[0].crop", "centre")),
        (("[224, 224]", "[224]"), 10, ("inputs[0].size",)),
        (("[224, 224]", "[0, 224]"), 10, ("inputs[0].size[0]", ">= 1")),
        (('"top5"', '"mae"'), 4, ("metric", "top1, top5, accuracy, auc")),
        (('"top5"', '"best"'), 4, ("metric", "'best'")),
        (("std = 127.5", "std = 0"), 22, ("inputs[0].std", "divided")),
        (("[1.0, 2.0, 3.5]", "[1.0, 2.0]"), 21, ("inputs[0].mean", "has 2 numbers", "RGB has 3")),
        (('kind = "image"', 'kind = "picture"'), 8, ("inputs[0].kind", "picture")),
        (("resize_to = 256", "resize_to = 200"), 12, ("inputs[0].resize_to", "smaller than size")),
        (("resize_to = 256", "resize_to = [256, 256]"), 12, ("inputs[0].resize_to", "one number")),
        (('resize = "shorter"', 'resize = "pad"'), 12, ("inputs[0].resize_to", "does not use it")),
        (("std = 127.5", "std = nan"), 22, ("inputs[0].std", "finite")),
        (("classes = 10", "classes = -1"), 30, ("output.classes",)),
        (("top_k = 5", "topk = 5"), 29, ("output.topk", "top_k")),
        (('"bilinear"', '"lanczos"\nantialias = false#'), 15, ("inputs[0].antialias",)),
    ],
)
def test_the_line_of_what_is_wrong(change: tuple[str, str], line: int, words: tuple[str, ...]) -> None:
    assert change[0] in TEXT
    text = TEXT.replace(*change).replace("antialias = true", "") if "lanczos" in change[1] else TEXT.replace(*change)
    with pytest.raises(ConfigError) as caught:
        parse_task(text, "task.toml")
    said = f"{caught.value.what} {caught.value.why} {caught.value.try_this}"
    assert caught.value.what.startswith(f"task.toml, line {line}:"), said
    assert all(word in said for word in words), said
    assert caught.value.why
    assert caught.value.try_this


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a = ", "is not TOML"),
        ('schema = "edgewright.task/2"', "schema edgewright.task/2"),
        ("inputs = 3", "inputs is not valid"),
        ('inputs = []\n[output]\nkind = "regression"', "inputs is not valid"),
        ('[output]\nkind = "regression"', "has no inputs"),
    ],
)
def test_files_that_are_no_task(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words.replace("[", r"\[")):
        parse_task(text)


def test_a_file_with_a_byte_order_mark_and_labels_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "task.toml"
    path.write_text("\ufeff" + TEXT.replace("top_k = 5", 'labels = "names.txt"').replace("classes = 10", ""), "utf-8")
    (tmp_path / "names.txt").write_text("\ufeffcat\r\ndog\r\n\r\n", "utf-8")
    assert read_label_names(read_task(path)) == ("cat", "dog")
    (tmp_path / "names.txt").write_text("\n")
    with pytest.raises(ConfigError, match="is empty"):
        read_task(path)
    (tmp_path / "names.txt").unlink()
    with pytest.raises(ConfigError, match="cannot be read"):
        read_task(path)


def test_paths_that_hold_no_task(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="task file does not exist"):
        read_task(tmp_path / "absent.toml")
    with pytest.raises(ConfigError):
        read_task(tmp_path)
    (tmp_path / "big.toml").write_bytes(b"#" * 1_100_000)
    with pytest.raises(ConfigError, match="not a task file"):
        read_task(tmp_path / "big.toml")
    (tmp_path / "latin.toml").write_bytes(b'name = "\xe4"')
    with pytest.raises(ConfigError, match="is not a task file: it is not UTF-8"):
        read_task(tmp_path / "latin.toml")


def signature(inputs: list[tuple[Any, ...]], outputs: list[tuple[Any, ...]]) -> Signature:
    def specs(rows: list[tuple[Any, ...]]) -> tuple[TensorSpec, ...]:
        return tuple(TensorSpec(name=name, dtype=dtype, shape=shape) for name, dtype, shape in rows)

    return Signature(inputs=specs(inputs), outputs=specs(outputs))


def test_a_proposal_for_pictures() -> None:
    task = propose_task(signature([("x", "float32", ("n", 3, 224, 224))], [("y", "float32", ("n", 1000))]), "net")
    picture = task.inputs[0]
    assert isinstance(picture, ImageInput)
    assert (picture.layout, picture.size, picture.resize_to, picture.color) == ("NCHW", (224, 224), 256, "RGB")
    assert task.output == Classification(name="y")
    assert (task.metric, task.name) == ("top1", "net")


def test_a_proposal_for_stored_integers_with_a_background_class() -> None:
    spec = TensorSpec(
        name="i", dtype="int8", shape=(1, 96, 96, 3), quantization=Quantization(scale=0.01, zero_point=-1)
    )
    out = TensorSpec(name="probabilities", dtype="int8", shape=(1, 1001))
    task = propose_task(Signature(inputs=(spec,), outputs=(out,)))
    picture = task.inputs[0]
    assert isinstance(picture, ImageInput)
    assert (picture.layout, picture.dtype, picture.mean, picture.std) == ("NHWC", "int8", 128.0, 1.0)
    assert task.output == Classification(name="probabilities", softmax=False, first_class=1)


def test_a_proposal_for_text() -> None:
    ids = [(name, "int64", ("b", 128)) for name in ("input_ids", "attention_mask", "token_type_ids")]
    task = propose_task(signature(ids, [("logits", "float32", ("b", 128, 30522))]))
    assert task.inputs == (TokensInput(name="input_ids", length=128, mask="attention_mask", segments="token_type_ids"),)
    assert task.output == NextToken(name="logits")


def test_proposals_for_the_rest() -> None:
    sound = propose_task(signature([("audio", "float32", (1, 16000))], [("embedding", "float32", (1, 64))]))
    assert sound.inputs == (AudioInput(name="audio", sample_rate=16_000, window=16_000, shape=(1, 16_000)),)
    assert sound.output == Embedding(name="embedding")
    rebuilt = propose_task(signature([("a", "float32", (1, 640))], [("b", "float32", (1, 640))]))
    assert rebuilt.inputs == (TensorInput(name="a", shape=(1, 640)),)
    assert rebuilt.output == Regression(name="b")
    boxes = propose_task(signature([("images", "float32", (1, 3, 640, 640))], [("o", "float32", (1, 84, 8400))]))
    assert boxes.output == Boxes(boxes="o", format="cxcywh", columns=True)
    ready = propose_task(
        signature(
            [("images", "float32", (1, 320, 320, 3))],
            [("boxes", "float32", (1, 100, 4)), ("scores", "float32", (1, 100, 90))],
        )
    )
    assert ready.output == Boxes(boxes="boxes", scores="scores")
    spectrogram = propose_task(signature([("x", "float32", ("n", 1, 49, 10))], [("y", "float32", ("n", 12))]))
    assert spectrogram.inputs == (TensorInput(name="x", shape=(1, 1, 49, 10)),)


@pytest.mark.parametrize(
    ("one", "augment", "key", "why"),
    [
        (PICTURE, "noise = 0.1", "augment.noise", "no input of the task is audio"),
        (TASKS[2].inputs[0], "flip = true", "augment.flip", "no input of the task is an image"),
        (TASKS[3].inputs[0], "shift = 1", "augment", "no input of the task is an image or audio"),
        (PICTURE, "shift = 224", "augment.shift", "it is not smaller than an input of size 224"),
        (ImageInput(name="x", size=(8, 8), dtype="uint8"), "flip = true", "augment", "the input 'x' is uint8"),
        (PICTURE, "erase = 2", "augment.erase", "Expected `float` <= 1"),
        (PICTURE, "mirror = true", "augment.mirror", "the keys are flip, shift, erase, brightness, contrast, noise"),
    ],
)
def test_an_augmentation_that_does_not_fit_is_rejected(one: Any, augment: str, key: str, why: str) -> None:
    metric = "perplexity" if isinstance(one, TokensInput) else "top1"
    output = NextToken() if isinstance(one, TokensInput) else Classification()
    text = write_task(Task(inputs=(one,), output=output, metric=metric)) + f"\n[augment]\n{augment}\n"
    with pytest.raises(ConfigError) as caught:
        parse_task(text, "task.toml")
    assert key in caught.value.what
    assert why in caught.value.why


def test_labels_that_never_end(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "large").write_bytes(b"a\n" * (9 << 20))
    (tmp_path / "latin").write_bytes(b"\xe4")
    text = write_task(Task(inputs=(PICTURE,), output=Classification()))
    for name, words in (
        ("/dev/zero", "not a regular file"),
        ("fifo", "not a regular file"),
        (".", "not a regular file"),
        ("large", "over 16,777,216 bytes"),
        ("latin", "utf-8"),
        ("absent", "No such file"),
        ("a\\u0000b", "null"),
    ):
        (tmp_path / "task.toml").write_text(text + f'labels = "{name}"\n')
        with pytest.raises(ConfigError, match=r"labels file .* cannot be read") as caught:
            read_task(tmp_path / "task.toml")
        assert words in caught.value.why
    os.mkfifo(tmp_path / "task")
    with pytest.raises(ConfigError, match="not a regular file"):
        read_task(tmp_path / "task")
    with pytest.raises(ConfigError, match="nested"):
        parse_task("x = " + "[" * 5_000 + "]" * 5_000)
