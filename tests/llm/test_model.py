"""The reference computation, padding, and the readers of llama2.c and GGUF files."""

import os
import struct
from io import FileIO
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest

from edgewright.errors import InputError, ModelNotConvertible, ModelNotFound, ModelUnreadable, UsageError
from edgewright.llm.engines.client import EngineClient
from edgewright.llm.engines.files import write_tokenizer
from edgewright.llm.engines.wire import Generate, Generation, OpenEngine, StopGenerating
from edgewright.llm.engines.worker import _Server
from edgewright.llm.model import DecoderModel, pad_model
from edgewright.llm.reference import QuantizedKV, Reference
from edgewright.llm.sampling import sample_texts
from edgewright.llm.sources import gguf_writer
from edgewright.llm.sources.gguf import read_gguf
from edgewright.llm.sources.gguf_layout import TEXT, unpack_blocks
from edgewright.llm.sources.gguf_writer import pack_blocks, write_gguf
from edgewright.llm.sources.open import open_model
from edgewright.llm.weights.packed import Packed, round_8bit
from tests.llm.models import make_model, make_tokenizer, open_stories

TOKENS = [1, 260, 261, 262, 300, 310, 270]


def test_tokens_one_by_one_give_the_logits_of_all_at_once() -> None:
    reference = Reference(make_model())
    whole = reference.logits(TOKENS)
    cache = reference.open_cache(1, len(TOKENS))
    steps = [reference.forward(np.asarray([[token]]), cache)[0, 0] for token in TOKENS]
    np.testing.assert_allclose(np.stack(steps), whole, atol=2e-5)


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_padding_changes_no_logits(family: str) -> None:
    model = make_model(family=family)
    padded = pad_model(model, 16, 32)
    assert (padded.config.head_size, padded.config.hidden) == (16, 96)
    assert padded.config.padding is not None
    np.testing.assert_allclose(Reference(padded).logits(TOKENS), Reference(model).logits(TOKENS), atol=2e-5)
    assert pad_model(model, 8, 16) is model


def test_heads_that_are_normalized_stay() -> None:
    assert pad_model(make_model(family="qwen3"), 16, 32).config.head_size == 8


def test_the_quantizer_of_the_cache_is_used_where_it_says() -> None:
    model = make_model()

    def spoil(layer: int, keys: np.ndarray, values: np.ndarray, queries: int) -> QuantizedKV:
        used = np.zeros((queries, len(keys)), bool)
        used[-1, 0] = True
        return QuantizedKV(keys * 0, values * 0, used)

    full, spoiled = Reference(model).logits(TOKENS), Reference(model, quantizer=spoil).logits(TOKENS)
    np.testing.assert_allclose(spoiled[:-1], full[:-1], atol=1e-6)
    assert np.abs(spoiled[-1] - full[-1]).max() > 1e-3


def test_the_real_model_has_the_known_likelihood(tmp_path: Path) -> None:
    """0.924 on texts that it wrote itself at temperature 0.8, as llama2.c and transformers have it."""
    model = open_stories()
    reference = Reference(model)
    texts = sample_texts(reference, 4, 100, seed=0)
    logits = reference.forward(texts[:, :-1]).astype(np.float64)
    chances = np.take_along_axis(logits, texts[:, 1:, None], -1)[..., 0] - np.log(np.exp(logits).sum(-1))
    assert 0.75 < -chances.mean() < 1.1
    assert model.tokenizer.decode(texts[0].tolist()).startswith(b"Once upon a time")


def test_a_tokenizer_merges_the_best_pair_first() -> None:
    tokenizer = make_tokenizer(320)
    tokens = tokenizer.encode("the é")
    assert [tokenizer.pieces[token] for token in tokens[1:]] == [b" the", b" ", b"<0xC3>", b"<0xA9>"]
    assert tokenizer.decode(tokens).decode() == "the é"
    assert tokenizer.encode("") == [1]
    assert tokenizer.encode("a", begin=False) == tokenizer.encode("a")[1:]


# ---------------------------------------------------------------- files


def test_a_gguf_file_gives_back_what_was_written(tmp_path: Path) -> None:
    model = pad_model(make_model(), 32, 32)
    names = ["layers.0.q", "layers.1.down"]
    random = np.random.default_rng(0)
    packed = {"layers.0.q": round_8bit(model.weights["layers.0.q"])}
    codes = random.integers(0, 16, (64, 96)).astype(np.uint8)
    halves = random.random((2, 64, 3)).astype(np.float16).astype(np.float32)
    packed["layers.1.down"] = Packed(codes, halves[0], halves[1], 4)
    write_gguf(tmp_path / "a.gguf", model, packed)
    found = read_gguf(tmp_path / "a.gguf")
    assert found.config == model.config
    for name in model.weights:
        wanted = packed[name].restore() if name in names else model.weights[name]
        np.testing.assert_array_equal(found.weights[name], wanted, name)
    assert found.tokenizer.encode("the cat é") == model.tokenizer.encode("the cat é")


def test_a_gguf_file_takes_another_tokenizer(tmp_path: Path) -> None:
    model = make_model()
    write_gguf(tmp_path / "a.gguf", model, {})
    write_tokenizer(tmp_path, model)
    assert open_model(tmp_path / "a.gguf", tmp_path / "tokenizer.bin").tokenizer.encode("the cat") == (
        model.tokenizer.encode("the cat")
    )


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("llama.attention.head_count", 0, "not a usable GGUF file"),
        ("tokenizer.ggml.eos_token_id", 7, "its token eos is not 2"),
    ],
)
def test_entries_that_cannot_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, value: int, text: str
) -> None:
    listed = gguf_writer._list_facts
    monkeypatch.setattr(
        gguf_writer, "_list_facts", lambda model: {**listed(model), key: (listed(model)[key][0], value)}
    )
    write_gguf(tmp_path / "a.gguf", make_model(), {})
    with pytest.raises((ModelUnreadable, ModelNotConvertible)) as caught:
        read_gguf(tmp_path / "a.gguf")
    assert text in str(caught.value)


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    model = make_model()
    weights = {name: model.weights[name] for name in model.weights if name != "layers.1.v"}
    write_gguf(tmp_path / "a.gguf", model._replace(weights=weights), {})
    with pytest.raises(ModelUnreadable, match=r"blk\.1\.attn_v\.weight is missing"):
        read_gguf(tmp_path / "a.gguf")


def test_scaled_positions_are_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They change the logits, so that a reader that leaves them out would be wrong."""
    listed = gguf_writer._list_facts

    def list_facts(model: DecoderModel) -> dict[str, tuple[int, Any]]:
        return listed(model) | {f"{model.config.family}.rope.scaling.type": (TEXT, "yarn")}

    monkeypatch.setattr(gguf_writer, "_list_facts", list_facts)
    write_gguf(tmp_path / "a.gguf", make_model(), {})
    with pytest.raises(ModelNotConvertible, match="rotary positions"):
        read_gguf(tmp_path / "a.gguf")


def test_blocks_are_those_of_the_format() -> None:
    """One block of each type, byte for byte: scale, then minimum, then codes; low halves first at 4 bits."""
    scale, low = np.full((1, 1), 0.5, np.float32), np.full((1, 1), -1.0, np.float32)
    codes = np.arange(32)[None] % 16
    q4 = pack_blocks(Packed(codes.astype(np.uint8), scale, low, 4))
    assert q4.tobytes() == struct.pack("<2e", 0.5, -1.0) + bytes(code | code << 4 for code in range(16))
    q8 = pack_blocks(Packed((np.arange(32)[None] - 16).astype(np.int8), scale, None, 8))
    assert q8.tobytes() == struct.pack("<e32b", 0.5, *range(-16, 16))
    np.testing.assert_array_equal(unpack_blocks(q4[0], "Q4_1", (1, 32)), codes * 0.5 - 1)
    raw = np.frombuffer(struct.pack("<e", 2.0) + bytes(16), np.uint8)
    np.testing.assert_array_equal(unpack_blocks(raw, "Q4_0", (32,)), np.full(32, -16.0))
    halves = np.array([1.5, -2], np.float32).view(np.uint32) >> 16
    np.testing.assert_array_equal(unpack_blocks(halves.astype("<u2").view(np.uint8), "BF16", (2,)), [1.5, -2])


@pytest.mark.parametrize("size", [0, 3, 20, 600, -40])
def test_a_truncated_gguf_file_is_named(tmp_path: Path, size: int) -> None:
    path = tmp_path / "a.gguf"
    write_gguf(path, make_model(), {})
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ModelUnreadable, match=r"a\.gguf"):
        read_gguf(path)


def write_checkpoint(path: Path, sizes: tuple[int, ...], floats: int) -> Path:
    path.write_bytes(struct.pack("<7i", *sizes) + np.arange(floats, dtype="<f4").tobytes())
    return path


def test_a_checkpoint_is_read_by_its_sizes(tmp_path: Path) -> None:
    width, hidden, vocabulary, context = 4, 6, 300, 8
    floats = 2 * vocabulary * width + 3 * width + 4 * width**2 + 3 * hidden * width + context * 2
    path = write_checkpoint(tmp_path / "a.bin", (width, hidden, 1, 2, 2, -vocabulary, context), floats)
    tokens = b"".join(struct.pack("<fi", -token, 2) + b"ab" for token in range(vocabulary))
    (tmp_path / "tok.bin").write_bytes(struct.pack("<I", 2) + tokens)
    model = open_model(path, tmp_path / "tok.bin")
    assert not model.config.tied
    assert model.weights["embedding"][0].tolist() == [0, 1, 2, 3]
    assert model.head[-1].tolist() == [floats - 4, floats - 3, floats - 2, floats - 1]
    with pytest.raises(UsageError, match="no tokenizer"):
        open_model(path)
    with pytest.raises(ModelNotFound):
        open_model(path, tmp_path / "none.bin")
    (tmp_path / "tok.bin").write_bytes(struct.pack("<I", 2) + tokens[:-5])
    with pytest.raises(ModelUnreadable, match="tokenizer"):
        open_model(path, tmp_path / "tok.bin")
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ModelUnreadable, match="complete"):
        open_model(path, tmp_path / "tok.bin")


def test_an_unknown_file_is_no_language_model(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"hello" * 20)
    with pytest.raises(ModelUnreadable, match="checkpoint"):
        open_model(tmp_path / "a.bin")
    with pytest.raises(ModelNotFound):
        open_model(tmp_path / "b.bin")


# ---------------------------------------------------------------- the process of an engine


class _Counting:
    """A session whose tokens are 0, 1, 2 …"""

    kv, context = "fp32", 64

    def __init__(self) -> None:
        self.token = -1

    def start(self, tokens: object, temperature: float, seed: int, *, reuse: bool) -> int:
        return 0

    def next_token(self) -> int:
        self.token += 1
        return self.token


def test_a_generation_stops_when_it_is_asked_to() -> None:
    server = _Server(FileIO(os.open(os.devnull, os.O_WRONLY), "w"), Mock())
    server.commands.put(StopGenerating())
    found = server._generate(_Counting(), Generate(tokens=(1,), count=60))  # type: ignore[arg-type] # no logits
    assert isinstance(found, Generation)
    assert (found.end, len(found.tokens)) == ("stopped", 1)
    server.channel.close()


def test_an_engine_computes_in_its_own_process(tmp_path: Path) -> None:
    model = make_model()
    write_gguf(tmp_path / "model.gguf", model, {})
    with EngineClient(None, "reference") as engine:
        opened = engine.open(OpenEngine(folder=str(tmp_path), main="model.gguf"))
        assert (opened.kv, opened.context) == ("fp32", 64)
        np.testing.assert_allclose(engine.logits(TOKENS), Reference(model).logits(TOKENS), atol=1e-5)
        seen: list[int] = []

        def take(token: int) -> bool:
            seen.append(token)
            return True

        whole = engine.generate(Generate(tokens=tuple(TOKENS), count=5), take)
        assert (whole.tokens, whole.end) == (tuple(seen), "count")
        assert len(whole.times_us) == 5
        assert whole.tokens[0] == Reference(model).logits(TOKENS)[-1].argmax()
        ended = engine.generate(Generate(tokens=tuple(TOKENS), count=5, stop=(whole.tokens[0],)))
        assert (ended.tokens, ended.end) == (whole.tokens[:1], "stop")
        full = engine.generate(Generate(tokens=tuple(TOKENS), count=500))
        assert (len(full.tokens), full.end) == (64 - len(TOKENS), "context")
        engine.generate(Generate(tokens=(1,), count=60), lambda token: False)  # whenever it stops, it goes on after
        assert engine.generate(Generate(tokens=tuple(TOKENS), count=5)).tokens == whole.tokens
        for tokens in ([], [1] * 65):
            with pytest.raises(InputError):
                engine.logits(tokens)
