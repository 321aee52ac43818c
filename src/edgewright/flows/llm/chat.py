"""`llm chat`: a conversation with a language model in a process of its own."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event

from msgspec import Struct

from edgewright.errors import RuntimeMissing, UsageError
from edgewright.flows.llm.candidates import (
    LanguageCandidate,
    RunningEngine,
    list_candidates,
    open_engine,
    read_text_files,
)
from edgewright.llm.artifacts import check_artifact
from edgewright.llm.chat.generation import Speaker
from edgewright.schema.chat import ChatOptions, ChatOutcome
from edgewright.schema.units import show_bytes


class ReplyFacts(Struct, frozen=True, kw_only=True):
    """What a reply took. `memory` is the resident memory of the engine's process in bytes."""

    reply: ChatOutcome
    first_s: float
    rest_s: float
    memory: int | None
    cancelled: bool

    def describe(self) -> str:
        """Return one line for the terminal."""
        count = self.reply.completion_tokens
        speed = f", {(count - 1) / self.rest_s:.0f} tokens/s" if count > 1 and self.rest_s > 0 else ""
        memory = f", {show_bytes(self.memory)} of memory" if self.memory else ""
        ended = ", stopped" if self.cancelled else ""
        return f"{count} tokens, the first one after {self.first_s * 1e3:.0f} ms{speed}{memory}{ended}."


class ChatSession:
    """The messages so far, and the model that replies. The oldest are forgotten when the context is full."""

    def __init__(self, speaker: Speaker, session: RunningEngine, system: str) -> None:
        self._speaker, self._session = speaker, session
        self._system = [{"role": "system", "content": system}] if system else []
        self._messages: list[dict[str, str]] = []

    def say(self, message: str, options: ChatOptions, emit: Callable[[str], object]) -> ReplyFacts:
        """Add a message, and pass on the pieces of the reply. Ctrl-C ends the reply, not the conversation.

        Raises InputError for a message that does not fit into the context.
        """
        self._messages.append({"role": "user", "content": message})
        pieces: list[str] = []
        times: list[float] = []
        cancelled = Event()

        def take(text: str) -> None:
            times.append(time.perf_counter())
            pieces.append(text)
            emit(text)

        kept = self._speaker.drop_oldest(self._messages)
        began = time.perf_counter()
        with _catch_interrupt(cancelled):
            reply = self._speaker.reply([*self._system, *kept], options, take, cancelled.is_set)
        self._messages.append({"role": "assistant", "content": "".join(pieces)})
        first = times[0] if times else time.perf_counter()
        return ReplyFacts(
            reply=reply,
            first_s=first - began,
            rest_s=time.perf_counter() - first,
            memory=self._session.memory().resident,
            cancelled=cancelled.is_set(),
        )


@contextmanager
def _catch_interrupt(cancelled: Event) -> Iterator[None]:
    """Set `cancelled` at Ctrl-C in the block, instead of an exception."""
    before = signal.signal(signal.SIGINT, lambda *_: cancelled.set())
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def open_chat(path: str, system: str, kv: str, threads: int) -> Iterator[ChatSession]:
    """Start the engine of an artifact, or the best artifact of a folder, and yield the conversation."""
    candidate = choose_candidate(path)
    with open_speaker(candidate, kv, threads) as (speaker, session):
        yield ChatSession(speaker, session, system)


def choose_candidate(path: str) -> LanguageCandidate:
    """Return the artifact at a path. Raises UsageError if there are several in a folder."""
    found = list_candidates((path,))
    if len(found) > 1:
        names = ", ".join(one.path.name for one in found)
        raise UsageError(f"{path} has {len(found)} artifacts", names, f"name one: {found[0].path}")
    return found[0]


@contextmanager
def open_speaker(candidate: LanguageCandidate, kv: str, threads: int) -> Iterator[tuple[Speaker, RunningEngine]]:
    """Start the engine of an artifact whose files are those of its record, and yield what replies."""
    if candidate.missing:
        raise RuntimeMissing(f"{candidate.runtime} is not set up", f"{candidate.name} needs it", candidate.missing)
    if not (own := candidate.find_kv(kv)):
        why = f"{candidate.runtime} has {', '.join(candidate.kv_formats)}"
        raise UsageError(f"--kv-precision {kv} is not possible", why, f"--kv-precision {candidate.kv_formats[0]}")
    check_artifact(candidate.path, candidate.record)
    tokenizer, template = read_text_files(candidate)
    with open_engine(candidate, own, threads) as session:
        yield Speaker(tokenizer, template, session.context, session.generate), session
