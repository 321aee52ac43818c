"""Text from tokens as they come."""

from codecs import getincrementaldecoder
from collections.abc import Callable, Sequence


class TextStream:
    """Decodes tokens to pieces of text, and ends at a stop text.

    A piece is held back while it ends in the middle of a character or could be the start of a stop text. Bytes that are
    no UTF-8 become U+FFFD.

    Args:
        decode: returns the bytes of some tokens.
        stops: texts that end the generation; they are not in the pieces.
    """

    def __init__(self, decode: Callable[[Sequence[int]], bytes], stops: Sequence[str] = ()) -> None:
        self._decode, self._stops = decode, tuple(filter(None, stops))
        self._characters = getincrementaldecoder("utf-8")("replace")
        self._held = ""
        self.is_stopped = False

    def add(self, token: int) -> str:
        """Return the text that this token completes; empty after a stop text."""
        return "" if self.is_stopped else self._release(self._characters.decode(self._decode([token])))

    def finish(self) -> str:
        """Return what was held back."""
        return "" if self.is_stopped else self._release(self._characters.decode(b"", final=True)) + self._take_held()

    def _release(self, text: str) -> str:
        self._held += text
        found = [place for stop in self._stops if (place := self._held.find(stop)) >= 0]
        if found:
            self.is_stopped, self._held = True, self._held[: min(found)]
            return self._take_held()
        keep = max((_count_overlap(self._held, stop) for stop in self._stops), default=0)
        released, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return released

    def _take_held(self) -> str:
        held, self._held = self._held, ""
        return held


def _count_overlap(text: str, stop: str) -> int:
    """Return how many characters at the end of `text` are the start of `stop`."""
    return next((size for size in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:size])), 0)
