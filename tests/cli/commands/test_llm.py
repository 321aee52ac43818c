"""`edgewright llm` on artifacts of the reference engine, which needs no package."""

import http.client
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edgewright.errors import ModelUnreadable
from edgewright.formats.files import hash_file
from edgewright.llm.artifacts import LanguageArtifact, check_artifact, read_artifact_record, write_artifact_record
from edgewright.llm.model import DecoderModel
from edgewright.llm.sources.gguf_writer import write_gguf
from tests.cli.calling import Call
from tests.llm.untied import TEXT, exchange_absent_tokens, make_untied


def write_artifact(folder: Path, model: DecoderModel, source: Path, precision: str) -> None:
    folder.mkdir(parents=True)
    write_gguf(folder / "model.gguf", model, {})
    shutil.copyfile(source.with_name("tokenizer.bin"), folder / "tokenizer.bin")
    record = LanguageArtifact(
        name="tiny",
        runtime="reference",
        precision=precision,
        main="model.gguf",
        files={name: hash_file(folder / name) for name in ("model.gguf", "tokenizer.bin")},
        bytes=(folder / "model.gguf").stat().st_size,
        config=model.config,
        source=str(source),
        source_sha256=hash_file(source),
        bos=model.tokenizer.bos,
        eos=model.tokenizer.eos,
    )
    write_artifact_record(record, folder)


def write_tokenizer(path: Path, model: DecoderModel) -> None:
    """Write llama2.c's format."""
    import struct

    pieces = zip(model.tokenizer.pieces, model.tokenizer.scores, strict=True)  # type: ignore[attr-defined]
    path.write_bytes(struct.pack("<i", 32) + b"".join(struct.pack("<fi", s, len(p)) + p for p, s in pieces))


@pytest.fixture
def artifacts(folder: Path) -> Path:
    """A folder with an artifact as good as the source, and a damaged one."""
    model, source = make_untied(), folder / "tiny.gguf"
    write_tokenizer(folder / "tokenizer.bin", model)
    write_gguf(source, model, {})
    write_artifact(folder / "o" / "good", model, source, "fp32")
    write_artifact(folder / "o" / "bad", exchange_absent_tokens(model), source, "w4")
    (folder / "held.txt").write_text(TEXT[:120])
    return folder / "o"


def test_a_planted_damage_fails_the_gate_though_perplexity_is_the_same(artifacts: Path, call: Call) -> None:
    done = call("llm", "evaluate", "o", "--text", "held.txt", "--kv-precision", "fp16,kv4", "--max-kld", 0.05, "--json")
    assert done.code == 3
    rows = {(one["precision"], one["kv"]): one for one in done.json()["rows"]}
    assert {key: one["state"] for key, one in rows.items()} == {
        ("fp32", "fp16"): "passed",
        ("fp32", "kv4"): "passed",
        ("w4", "fp16"): "failed",
        ("w4", "kv4"): "failed",
    }
    good, bad = rows["fp32", "fp16"], rows["w4", "fp16"]
    assert bad["nll"] == pytest.approx(good["nll"], abs=1e-5)
    assert good["kld"] == pytest.approx(0, abs=1e-6)
    assert bad["kld"] > 0.05
    assert "KL divergence" in done.error()[1]
    assert call("llm", "evaluate", "o/good", "--text", "held.txt", "--max-kld", 0.05).code == 0


def test_speed_then_what_fits(artifacts: Path, call: Call) -> None:
    words = ("--prompt", "8,16", "--generate", 4, "--processes", 2, "--repeats", 1)
    done = call("llm", "benchmark", "o", *words, "--json")
    assert done.code == 0, done.err
    rows = done.json()["rows"]
    assert [(one["precision"], one["prompt"]) for one in rows] == [("w4", 8), ("w4", 16), ("fp32", 8), ("fp32", 16)]
    for one in rows:
        assert one["low"]["ttft_us"] <= one["ttft_us"] <= one["high"]["ttft_us"]
        assert one["decode_tokens_s"] > 0
        assert one["peak_bytes"] > 1_000_000
    assert len(done.json()["verdicts"]) == 4
    fits = call("llm", "fit", "--memory", "4GB", "--context", 64, "o", "tiny.gguf", "--json").json()["fits"]
    evidence = {(one["model"], one["evidence"]) for one in fits}
    assert evidence == {("good", "measured"), ("bad", "measured"), ("tiny.gguf", "estimated")}
    assert all(one["fits"] for one in fits)
    assert not any(one["fits"] for one in call("llm", "fit", "--memory", "1kB", "o", "--json").json()["fits"])


def test_a_chat_that_is_piped(artifacts: Path, call: Call) -> None:
    done = call("llm", "chat", "o/good", "--prompt", "the rain", "--max-tokens", 5)
    assert done.code == 0, done.err
    assert done.out.endswith("\n")
    assert "5 tokens, the first one after" in done.err
    several = call("llm", "chat", "o", "--prompt", "x")
    assert several.code == 2
    assert "2 artifacts" in several.error()[0]
    assert call("llm", "chat", "o/good", "--prompt", "the rain " * 60).code == 2  # longer than the context
    assert call("llm", "chat", "o/good", "--prompt", "x", "--kv-precision", "kv4").code == 2


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("evaluate", "none", "--text", "held.txt"), 2),
        (("evaluate", "o", "--text", "none.txt"), 2),
        (("evaluate", "o", "--text", "held.txt", "--kv-precision", "kv3"), 2),
        (("benchmark", "o", "--prompt", "many"), 2),
        (("benchmark", "o", "--prompt", "1000"), 6),
        (("fit", "--memory", "much", "o"), 2),
        (("fit", "--memory", "4GB", "none.gguf"), 2),
    ],
)
def test_requests_that_cannot_be_met(artifacts: Path, call: Call, words: tuple[str, ...], code: int) -> None:
    done = call("llm", *words)
    assert done.code == code
    assert done.error()


def test_a_changed_file_is_noticed(artifacts: Path) -> None:
    folder = artifacts / "good"
    record = read_artifact_record(folder)
    check_artifact(folder, record)
    with (folder / "model.gguf").open("ab") as file:
        file.write(b"more")
    with pytest.raises(ModelUnreadable, match="changed"):
        check_artifact(folder, record)


def test_a_source_that_is_gone_or_changed(artifacts: Path, folder: Path, call: Call) -> None:
    source = folder / "tiny.gguf"
    write_gguf(source, exchange_absent_tokens(make_untied()), {})
    assert "changed" in call("llm", "evaluate", "o", "--text", "held.txt").error()[0]
    source.unlink()
    assert "does not exist" in call("llm", "evaluate", "o", "--text", "held.txt").error()[0]


def test_the_endpoint(artifacts: Path) -> None:
    command = [sys.executable, "-m", "edgewright", "serve", "o/good", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=artifacts.parent) as server:
        try:
            assert server.stdout
            address = server.stdout.readline().split()[0]
            connection = http.client.HTTPConnection(address.split("/")[2], timeout=120)
            asked = {"messages": [{"role": "user", "content": "the rain"}], "stream": True, "max_tokens": 3}
            connection.request("POST", "/v1/chat/completions", json.dumps(asked))
            events = connection.getresponse().read().decode().strip().split("\n\n")
            assert events[-1] == "data: [DONE]"
            assert json.loads(events[-2].removeprefix("data: "))["choices"][0]["finish_reason"] == "length"
            connection.request("GET", "/v1/models")
            assert json.loads(connection.getresponse().read())["data"][0]["id"] == "good"
            asked["messages"] = [{"role": "user", "content": "the rain " * 60}]
            connection.request("POST", "/v1/chat/completions", json.dumps(asked))
            response = connection.getresponse()
            assert response.status == 400
            assert "too long" in json.loads(response.read())["error"]["message"]
        finally:
            connection.close()
            server.terminate()
