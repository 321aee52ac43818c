"""Quality, speed and the endpoint on artifacts of llama.cpp, set up by `make test-llm`."""

import http.client
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from edgewright.flows.llm.benchmark import BenchmarkRequest, benchmark_artifacts
from edgewright.flows.llm.compile import LanguageCompileRequest, compile_language_model
from edgewright.flows.llm.evaluate import EvaluateRequest, evaluate_artifacts
from edgewright.runtimes.environments import FOLDER, find_ready_locks
from tests.llm.models import find_data
from tests.llm.test_stories import TEXT

pytestmark = pytest.mark.slow
HOME = Path.home() / ".cache" / "edgewright-tests"
CLIENTS = 32


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if "llamacpp" not in find_ready_locks(HOME / FOLDER):
        pytest.skip("llama.cpp is not set up: make test-llm")
    data, folder = find_data(), tmp_path_factory.mktemp("o")
    request = LanguageCompileRequest(
        model=str(data / "stories260K.bin"),
        tokenizer=str(data / "tok512.bin"),
        runtimes=("llamacpp",),
        precisions=("fp32", "w8"),
        output=str(folder),
        environments=HOME / FOLDER,
    )
    compile_language_model(request, lambda text: None)
    return folder


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEWRIGHT_HOME", str(HOME))


def test_the_gate_tells_formats_of_keys_and_values_apart(artifacts: Path, tmp_path: Path) -> None:
    (tmp_path / "held.txt").write_text(TEXT)
    request = EvaluateRequest(
        artifacts=(str(artifacts),),
        text=str(tmp_path / "held.txt"),
        kv_precision=("fp16", "kv8", "kv4"),
        max_kld=0.05,
    )
    report, error = evaluate_artifacts(request, len)
    rows = {(one.runtime, one.precision, one.kv): one for one in report.rows}
    assert rows["llamacpp", "fp32", "fp16"].kld == pytest.approx(0, abs=1e-4)
    assert rows["llamacpp", "fp32", "kv8"].state == "passed"
    assert rows["llamacpp", "fp32", "kv4"].state == "failed"  # llama.cpp's Q4_0 of keys and values
    assert rows["reference", "fp32", "kv4"].state == "passed"  # Edgewright's streaming format
    assert error is not None
    assert error.exit_code == 3


def test_fresh_processes_are_measured(artifacts: Path) -> None:
    request = BenchmarkRequest(artifacts=(str(artifacts),), prompts=(32,), generate=16, processes=2, repeats=1)
    report, error = benchmark_artifacts(request, len)
    assert error is None
    assert {one.state for one in report.rows} == {"measured"}
    assert all(one.peak_bytes and one.decode_tokens_s for one in report.rows)


@pytest.fixture
def server(artifacts: Path) -> Iterator[str]:
    """The address of a server in front of llama.cpp."""
    folder = next(artifacts.glob("*fp32"))
    command = [sys.executable, "-m", "edgewright", "serve", str(folder), "--port", "0", "--limit", "300"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=dict(os.environ)) as process:
        assert process.stdout
        yield process.stdout.readline().split()[0].split("/")[2]
        process.terminate()


def ask(address: str, number: int) -> str:
    """Return the text of a streamed reply."""
    body = {"messages": [{"role": "user", "content": f"Once upon a time {number}"}], "stream": True, "max_tokens": 20}
    connection = http.client.HTTPConnection(address, timeout=300)
    connection.request("POST", "/v1/chat/completions", json.dumps(body))
    *events, done, _ = connection.getresponse().read().decode().split("\n\n")
    connection.close()
    assert done == "data: [DONE]"
    chunks = [json.loads(one.removeprefix("data: "))["choices"][0] for one in events]
    assert chunks[-1]["finish_reason"] in ("length", "stop")
    return "".join(one["delta"].get("content", "") for one in chunks)


def test_thirty_two_clients_get_what_one_gets(server: str) -> None:
    with ThreadPoolExecutor(CLIENTS) as pool:
        together = list(pool.map(lambda number: ask(server, number), range(CLIENTS)))
    assert all(together)
    assert together[::8] == [ask(server, number) for number in range(0, CLIENTS, 8)]
