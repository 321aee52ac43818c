"""Search over everything: pages, models, and runs by any piece of an id. The page and the palette show its results."""

from collections.abc import Iterator, Sequence
from itertools import islice

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from edgewright.schema.text import printable
from edgewright.store.runs.queries import RunFilter, RunSummary
from edgewright.store.store import Store
from edgewright.web.jobs.kinds import JOB_KINDS
from edgewright.web.server.responses import make_page_response
from edgewright.web.server.state import get_app_state

MAX_LETTERS = 200
MAX_OF_ONE_KIND = 8
_MIN_HASH_LETTERS = 6


class FoundItem(Struct, frozen=True, kw_only=True):
    """One result: what it is, its name, what distinguishes it, and its address."""

    kind: str
    title: str
    detail: str
    address: str


PAGES = (
    FoundItem(kind="page", title="Models", detail="", address="/models"),
    FoundItem(kind="page", title="Activity", detail="sessions", address="/activity"),
    FoundItem(kind="page", title="Runs", detail="flat list", address="/runs"),
    FoundItem(kind="page", title="Devices", detail="", address="/devices"),
    FoundItem(kind="page", title="Jobs", detail="", address="/work"),
    *(
        FoundItem(kind="new", title=f"{kind.title} a model", detail="new job", address=f"/work?kind={name}")
        for name, kind in JOB_KINDS.items()
    ),
)


def find_page(request: Request) -> Response:
    app_state = get_app_state(request)
    text = request.query_params.get("text", "").strip()[:MAX_LETTERS]
    found = _find_items(text, app_state.store, app_state.deletions.hidden())
    return make_page_response(
        request, "find.html", "find", lambda: {"text": text, "found": found}, {"text": text, "found": found}
    )


def _find_items(text: str, store: Store, hidden: Sequence[str] = ()) -> list[FoundItem]:
    """Return the pages, models and runs that have all words of the text; the newest models and runs without one."""
    words = text.lower().split()
    pages = (one for one in PAGES if _has_words(f"{one.title} {one.detail}", words))
    wanted = RunFilter(text=text or None, limit=MAX_OF_ONE_KIND, metrics=(), without=tuple(hidden))
    runs = map(_describe_run, store.list_runs(wanted))
    return [*pages, *islice(_find_models(words, store), MAX_OF_ONE_KIND), *runs]


def _has_words(text: str, words: Sequence[str]) -> bool:
    return all(word in text.lower() for word in words)


def _find_models(words: Sequence[str], store: Store) -> Iterator[FoundItem]:
    hashes = [word for word in words if len(word) >= _MIN_HASH_LETTERS]
    for model in store.list_models():
        text = f"{model.name} {model.format} {model.precision or ''}"
        if _has_words(text, words) or (len(words) == 1 and hashes and hashes[0] in model.id):
            detail = " · ".join(filter(None, (model.precision, model.format, model.id[:10])))
            yield FoundItem(
                kind="model", title=printable(model.name), detail=printable(detail), address=f"/models/{model.id}"
            )


def _describe_run(run: RunSummary) -> FoundItem:
    detail = " · ".join(filter(None, (run.runtime, run.precision, run.kind, run.id[-6:])))
    return FoundItem(
        kind="run",
        title=printable(run.model_name or run.id),
        detail=printable(detail),
        address=f"/runs/{run.id}",
    )
