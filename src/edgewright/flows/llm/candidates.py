"""The artifacts of `llm compile`, with what runs them."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from edgewright.errors import RuntimeMissing, UsageError
from edgewright.llm.artifacts import (
    TEMPLATE,
    LanguageArtifact,
    find_artifacts,
    is_artifact,
    open_artifact_tokenizer,
    open_source,
    read_artifact_record,
)
from edgewright.llm.engines.client import EngineClient, make_engine_command
from edgewright.llm.engines.table import find_engine
from edgewright.llm.engines.wire import EngineMemory, EngineOpened, Generate, Generation, OpenEngine
from edgewright.llm.measure.speed import GenerationTimes
from edgewright.llm.model import DecoderConfig, DecoderModel
from edgewright.llm.sources.gguf_layout import MAGIC
from edgewright.llm.sources.llama2c import read_header
from edgewright.llm.sources.open import open_model
from edgewright.llm.tokenizer import Tokenizer
from edgewright.runtimes.environments import FOLDER
from edgewright.schema.arrays import Array
from edgewright.store.location import find_home

REFERENCE = "reference"  # the runtime of Edgewright's own implementation
GGUF = ".gguf"


class LanguageCandidate(Struct, frozen=True, kw_only=True):
    """One artifact.

    Attributes:
        name: unique among the artifacts of a command.
        kv_formats: formats of keys and values that its engine has.
        missing: the command that sets up its engine; empty if it is.
    """

    name: str
    path: Path
    record: LanguageArtifact
    kv_formats: tuple[str, ...]
    missing: str

    @property
    def runtime(self) -> str:
        return self.record.runtime

    @property
    def precision(self) -> str:
        return self.record.precision

    @property
    def config(self) -> DecoderConfig:
        """Sizes as the engine has them, with padding."""
        return self.record.config

    def find_kv(self, kv: str) -> str:
        """Return the engine's format for `kv`, empty if it has none. Float32 can stand for fp16."""
        if kv in self.kv_formats:
            return kv
        return "fp32" if kv == "fp16" and "fp32" in self.kv_formats else ""


class RunningEngine:
    """A model in an engine's process.

    Attributes:
        start_us: from the start of the process to its first message.
        load_us: of the model.
        context: longest sequence in tokens.
    """

    def __init__(self, client: EngineClient, opened: EngineOpened, eos: tuple[int, ...]) -> None:
        self._client, self._eos = client, eos
        self.start_us, self.load_us, self.context = client.start_us, opened.load_us, opened.context

    def logits(self, tokens: Sequence[int]) -> Array:
        """Return the logits after each token, float32 [tokens, vocabulary]."""
        return self._client.logits(tokens)

    def complete(self, tokens: Sequence[int], count: int) -> list[int]:
        """Return the most likely tokens that follow, up to the end of a sequence."""
        return list(self._client.generate(Generate(tokens=tuple(tokens), count=count, stop=self._eos)).tokens)

    def generate(self, request: Generate, on_token: Callable[[int], bool]) -> Generation:
        """Generate; see `EngineClient.generate`."""
        return self._client.generate(request, on_token)

    def time_generation(self, tokens: Sequence[int], count: int) -> GenerationTimes:
        """Return the times of a generation of `count` tokens, taken in the engine's process."""
        times = self._client.generate(Generate(tokens=tuple(tokens), count=count, stream=False)).times_us
        return GenerationTimes(first_us=times[0], token_us=tuple(after - before for before, after in pairwise(times)))

    def memory(self) -> EngineMemory:
        """Return the memory of the process."""
        return self._client.memory()


def find_candidates(path: Path) -> tuple[LanguageCandidate, ...]:
    """Return the artifact at a path, or those in the folder; none for a path that is no folder of language models."""
    if not path.is_dir() or not (is_artifact(path) or any(map(is_artifact, path.iterdir()))):
        return ()
    return tuple(map(_read_candidate, find_artifacts(path)))


def _read_candidate(folder: Path) -> LanguageCandidate:
    record = read_artifact_record(folder)
    engine, missing = find_engine(record.runtime), ""
    try:
        make_engine_command(find_home() / FOLDER, engine)
    except RuntimeMissing as error:
        missing = error.try_this
    return LanguageCandidate(name=folder.name, path=folder, record=record, kv_formats=engine.kv, missing=missing)


def list_candidates(paths: Sequence[str]) -> tuple[LanguageCandidate, ...]:
    """Return the artifacts at all paths, each once. Raises ModelNotFound for a path without one."""
    folders = dict.fromkeys(folder.resolve() for path in paths for folder in find_artifacts(Path(path)))
    found = [_read_candidate(folder) for folder in folders]
    names = [one.name for one in found]
    return tuple(replace(one, name=str(one.path)) if names.count(one.name) > 1 else one for one in found)


def read_source(candidates: Sequence[LanguageCandidate]) -> DecoderModel:
    """Return the full-precision model of all artifacts. Raises UsageError if they have several."""
    sources = {one.record.source_sha256: one for one in candidates}
    if len(sources) > 1:
        why = ", ".join(one.record.source for one in sources.values())
        raise UsageError("the artifacts are of several models", why, "evaluate those of one model at a time")
    return open_source(candidates[0].record)


def read_restored(candidate: LanguageCandidate) -> DecoderModel | None:
    """Return an artifact's model with its weights in float32; None if they are not in a GGUF file."""
    main = candidate.path / candidate.record.main
    if main.suffix != GGUF:
        return None
    return open_model(main)._replace(tokenizer=open_artifact_tokenizer(candidate.record, candidate.path))


def read_config(path: Path) -> DecoderConfig:
    """Return the sizes of a source. Raises the errors of `open_model`."""
    if path.is_file():
        with path.open("rb") as file:
            if file.read(len(MAGIC)) != MAGIC:
                return read_header(path)
    return open_model(path).config


def read_text_files(candidate: LanguageCandidate) -> tuple[Tokenizer, str]:
    """Return the tokenizer and the chat template of an artifact; the template is empty if there is none."""
    template = candidate.path / TEMPLATE
    text = template.read_text(encoding="utf-8") if template.is_file() else ""
    return open_artifact_tokenizer(candidate.record, candidate.path), text


@contextmanager
def open_engine(candidate: LanguageCandidate, kv: str, threads: int) -> Iterator[RunningEngine]:
    """Start the engine of an artifact in a fresh process, and load it.

    Args:
        kv: the engine's format of keys and values, from `LanguageCandidate.find_kv`.

    Raises RuntimeMissing, ModelRejected, LimitReached, or the errors of its process.
    """
    with EngineClient(find_home() / FOLDER, candidate.runtime) as client:
        request = OpenEngine(folder=str(candidate.path), main=candidate.record.main, kv=kv, threads=threads)
        yield RunningEngine(client, client.open(request), candidate.record.eos)
