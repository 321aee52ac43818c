"""Language of what is shown: of a request, or of the terminal."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

ENGLISH = "en"
LANGUAGES = {ENGLISH: "English", "zh-CN": "中文"}
VARIABLE = "EDGEWRIGHT_LANGUAGE"
# Scripts and regions that are not written in simplified characters.
TRADITIONAL = ("hant", "tw", "hk", "mo")
_current: ContextVar[str] = ContextVar("language", default=ENGLISH)


def get_language() -> str:
    """Return the language of this request; English where none was chosen."""
    return _current.get()


@contextmanager
def use_language(language: str) -> Iterator[None]:
    token = _current.set(language)
    try:
        yield
    finally:
        _current.reset(token)


def translate(text: str) -> str:
    """Return a finished English text in the current language; English where the catalog lacks it."""
    language = _current.get()
    if language == ENGLISH:
        return text
    from edgewright.locale.catalog import find_translation  # not at the start of every command

    return find_translation(text, language)


def find_language(tag: str) -> str:
    """Return the supported language of a tag such as `zh-Hans-SG` or `zh_CN.UTF-8`; empty if there is none."""
    words = tag.strip().partition(".")[0].partition("@")[0].replace("_", "-").lower().split("-")
    if words[0] == "zh" and not any(word in TRADITIONAL for word in words):
        return "zh-CN"
    return ENGLISH if words[0] in (ENGLISH, "c", "posix") else ""


def choose_language(accepted: str) -> str:
    """Return the supported language that an Accept-Language header prefers; English without one."""
    best, most = ENGLISH, 0.0
    for one in accepted[:1_000].split(","):
        tag, _, quality = one.partition(";")
        try:
            weight = float(quality.strip().removeprefix("q=") or 1)
        except ValueError:
            continue
        if (language := find_language(tag)) and most < weight <= 1:
            best, most = language, weight
    return best


def read_terminal_language(environ: Mapping[str, str]) -> str:
    """Return the language of a terminal: `EDGEWRIGHT_LANGUAGE`, else that of the messages of the locale."""
    for name in (VARIABLE, "LC_ALL", "LC_MESSAGES", "LANG"):
        if value := environ.get(name):
            return find_language(value) or ENGLISH
    return ENGLISH
