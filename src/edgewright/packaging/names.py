"""Names that are valid in every language of an app."""

import re
import unicodedata

from edgewright.errors import UsageError

# Words of C++, Java, Kotlin, Swift and JavaScript that are no names.
_WORDS = (
    "abstract alignas alignof and any as asm assert associatedtype async auto await bool boolean break byte "
    "case catch char class co_await co_return co_yield companion concept const consteval constexpr constinit "
    "const_cast continue data debugger decltype default defer deinit delete do double dynamic_cast else enum "
    "explicit export extends extension extern fallthrough false fileprivate final finally float for friend fun "
    "func function goto guard if implements import in init inline inout instanceof int interface internal is "
    "let long main mutable namespace native new nil noexcept not null nullptr object open operator or override "
    "package private protected protocol public register reinterpret_cast repeat requires rethrows return self "
    "short signed sizeof static static_assert static_cast strictfp struct subscript super switch synchronized "
    "template test this thread_local throw throws transient true try type typealias typedef typeid typename "
    "typeof union unsigned using val var virtual void volatile wchar_t when where while with xor yield "
)
RESERVED = frozenset(_WORDS.split())
TAKEN = frozenset(("app", "golden", "main", "pipeline", "test"))  # parts of projects
MOST_LETTERS = 40
_SEGMENT = re.compile(r"[a-z][a-z0-9_]*")


def make_identifier(text: str) -> str:
    """Return a text as an identifier of lower-case letters, digits and `_`; empty if it has no such letter."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    word = re.sub(r"[^a-z0-9]+", "_", plain).strip("_")[:MOST_LETTERS].strip("_")
    if not word:
        return ""
    return f"model_{word}" if word[0].isdigit() or word in RESERVED | TAKEN else word


def check_app_id(text: str) -> str:
    """Return an app's id if it is valid on all systems. Raises UsageError."""
    parts = text.split(".")
    if reserved := [one for one in parts if one in RESERVED]:
        why = f"{reserved[0]!r} is a reserved word of a language of the app"
        raise UsageError(f"the app id {text[:80]!r} is not possible", why, "--app-id com.example.digits")
    if len(parts) < 2 or not all(map(_SEGMENT.fullmatch, parts)) or len(text) > 100:
        why = "it is two or more words of a-z, 0-9 and _, with dots between them; each begins with a letter"
        raise UsageError(f"the app id {text[:80]!r} is not possible", why, "--app-id com.example.digits")
    return text
