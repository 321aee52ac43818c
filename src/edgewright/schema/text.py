"""Sanitizing of text from untrusted files for display, and similar words.

Names of models, nodes and tensors come from files. A control character in one could move the cursor of a terminal. A
bidirectional override, a zero-width character or a line separator could make a name look like another one.
"""

import re
from collections.abc import Iterable
from unicodedata import category

REPLACEMENT = "\ufffd"
UNSEEN = ("Cc", "Cf", "Co", "Cs", "Zl", "Zp")  # controls, format characters, private use, surrogates, separators
_UNUSUAL = re.compile(r"[^\t\n -~]+")


def printable(text: str) -> str:
    """Return the text with U+FFFD for every invisible character except tab and newline."""
    return _UNUSUAL.sub(lambda found: "".join(REPLACEMENT if _is_unseen(one) else one for one in found[0]), text)


def escape_json(text: str) -> str:
    """Return equivalent JSON in which invisible characters are escaped."""
    return _UNUSUAL.sub(lambda found: "".join(_escape(one) if _is_unseen(one) else one for one in found[0]), text)


def escape_ascii(text: str) -> str:
    """Return equivalent JSON in ASCII."""
    return re.sub(r"[^\x00-\x7f]", lambda found: _escape(found[0]), text)


def _is_unseen(letter: str) -> bool:
    return category(letter) in UNSEEN


def _escape(letter: str) -> str:
    units = letter.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at] << 8 | units[at + 1]:04x}" for at in range(0, len(units), 2))


def find_close(word: str, known: Iterable[str]) -> str:
    """Return the known word that is most similar to one that is not known; empty if none is."""
    from difflib import get_close_matches

    return next(iter(get_close_matches(word, list(known), 1)), "")


def suggest(word: str, known: Iterable[str]) -> str:
    """Return a question that names the known word that is most similar to `word`; empty if none is."""
    close = find_close(word, known)
    return f". Did you mean '{close}'?" if close else ""
