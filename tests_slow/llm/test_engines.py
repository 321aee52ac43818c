"""The engines of language models, set up by `make test-llm`: the same weights give the same tokens everywhere."""

from pathlib import Path

import numpy as np
import pytest

from edgewright.flows.llm.compile import LanguageCompileRequest, compile_language_model
from edgewright.llm.artifacts import read_artifact_record
from edgewright.llm.engines.client import EngineClient
from edgewright.llm.engines.wire import Generate, OpenEngine
from edgewright.llm.reference import Reference
from edgewright.runtimes.environments import FOLDER, find_ready_locks
from tests.llm.models import find_data, open_stories

pytestmark = pytest.mark.slow
ENVIRONMENTS = Path.home() / ".cache" / "edgewright-tests" / FOLDER
ENGINES = ("onnxruntime-genai", "llamacpp")


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Path]:
    ready = [name for name in ENGINES if name in find_ready_locks(ENVIRONMENTS)]
    if not ready:
        pytest.skip("no engine is set up: make test-llm")
    data = find_data()
    request = LanguageCompileRequest(
        model=str(data / "stories260K.bin"),
        tokenizer=str(data / "tok512.bin"),
        runtimes=tuple(ready),
        precisions=("fp32", "w8", "w4"),
        output=str(tmp_path_factory.mktemp("o")),
        environments=ENVIRONMENTS,
    )
    report = compile_language_model(request, lambda text: None)
    assert [row.state for row in report.artifacts] == ["done"] * len(report.artifacts)
    return {(row.runtime, row.precision): Path(row.path or "") for row in report.artifacts}


@pytest.mark.parametrize("engine", ENGINES)
def test_an_engine_writes_the_tokens_of_the_reference(artifacts: dict[tuple[str, str], Path], engine: str) -> None:
    folder = artifacts.get((engine, "fp32")) or pytest.skip(f"{engine} is not set up")
    reference = Reference(open_stories())
    record = read_artifact_record(folder)
    with EngineClient(ENVIRONMENTS, engine) as client:
        client.open(OpenEngine(folder=str(folder), main=record.main, kv="fp32"))
        written = client.generate(Generate(tokens=(1,), count=40)).tokens
        wanted = reference.logits([1, *written])
        assert written == tuple(wanted.argmax(-1)[:-1].tolist())
        np.testing.assert_allclose(client.logits([1, *written]), wanted, atol=2e-3)
        again = client.generate(Generate(tokens=(1, *written[:20]), count=20, reuse=True))
        assert again.tokens == written[20:]
        assert again.reused == 20


@pytest.mark.parametrize("kv", ["fp32", "fp16", "kv8", "kv4"])
def test_llamacpp_has_each_cache(artifacts: dict[tuple[str, str], Path], kv: str) -> None:
    folder = artifacts.get(("llamacpp", "w4")) or pytest.skip("llamacpp is not set up")
    with EngineClient(ENVIRONMENTS, "llamacpp") as client:
        assert client.open(OpenEngine(folder=str(folder), main="model.gguf", kv=kv)).kv == kv
        assert np.isfinite(client.logits([1, 403, 407])).all()
