"""State of the list of runs, stored in its address: filter, order, page."""

from collections.abc import Mapping
from typing import Any, get_args
from urllib.parse import parse_qsl

from msgspec import Struct
from starlette.datastructures import QueryParams

from edgewright.bench.trust import LATENCY_METRICS
from edgewright.schema.metrics import ACCURACIES
from edgewright.schema.vocabulary import RunState
from edgewright.store.runs.queries import RunFilter, SortKey
from edgewright.web.server.links import add_query

PER_PAGE = 50
FILTER_FIELDS = ("model", "runtime", "precision", "device", "kind", "state", "tag", "since", "until", "text")
HEADLINE_METRICS = (*LATENCY_METRICS, "cold_start", "memory.peak", *ACCURACIES, "model.file")
# Columns of the list that can be hidden; the model's name is always shown.
COLUMN_KEYS = (
    "runtime", "precision", "device", "p50", "cold", "memory", "accuracy", "kind", "state", "started", "tags"
)  # fmt: skip
MAX_LETTERS = 500
MAX_PAGE = 1_000_000


class ListState(Struct, frozen=True, kw_only=True):
    """State in an address of a list. Empty fields do not restrict; without `columns`, the default ones are shown."""

    words: dict[str, str]
    sort: SortKey = "started"
    ascending: bool = False
    page: int = 1
    columns: tuple[str, ...] = ()
    path: str = "/runs"

    def filter(self, hidden: tuple[str, ...] = (), limit: int | None = PER_PAGE) -> RunFilter:
        """Return the filter for the store, which raises UsageError for an invalid date."""
        words = {name: word for name, word in self.words.items() if word}
        name, equals, value = words.pop("tag", "").partition("=")
        requested = words.pop("state", "")
        state: RunState | None = next((one for one in get_args(RunState) if one == requested), None)
        plain: dict[str, Any] = dict(words)
        return RunFilter(
            **plain,
            tags={name: value} if equals else {},
            state=state,
            sort=self.sort,
            ascending=self.ascending,
            limit=limit,
            offset=(self.page - 1) * PER_PAGE if limit else 0,
            without=hidden,
            metrics=HEADLINE_METRICS,
        )

    def fields(self) -> list[tuple[str, str]]:
        """Return the names and values in the address."""
        return parse_qsl(self.address("").removeprefix("?"))

    def address(self, path: str | None = None, **other: str) -> str:
        """Return the address of this state with some fields changed, without fields at their default."""
        fields = {
            **self.words,
            "sort": self.sort,
            "order": "up" if self.ascending else "",
            "page": str(self.page),
            "columns": " ".join(self.columns),
            **other,
        }
        path = self.path if path is None else path
        defaults = {"sort": "started", "page": "1"}
        return add_query(path, [(name, value) for name, value in fields.items() if value != defaults.get(name, "")])

    def sorted_by(self, key: str) -> str:
        """Return the address of a column's header, which sorts by the column, or reverses the order."""
        ascending = key not in ("started",) if key != self.sort else not self.ascending
        return self.address(sort=key, order="up" if ascending else "", page="1")


def parse_list_state(query: Mapping[str, str] | QueryParams) -> ListState:
    """Return the state in an address; unknown fields are ignored."""
    words = {name: query.get(name, "").strip()[:MAX_LETTERS] for name in FILTER_FIELDS}
    requested = query.get("sort", "started")
    sort: SortKey = next((key for key in get_args(SortKey) if key == requested), "started")
    page = query.get("page", "1")
    number = int(page) if page.isascii() and page.isdigit() and len(page) < 8 else 1
    columns = _get_all(query, "columns")
    return ListState(
        words=words,
        sort=sort,
        ascending=query.get("order") == "up",
        page=min(max(number, 1), MAX_PAGE),
        columns=tuple(dict.fromkeys(word for word in columns if word in COLUMN_KEYS)),
    )


def _get_all(query: Mapping[str, str] | QueryParams, name: str) -> list[str]:
    """Return the words of a field: of each of its values, if it occurs several times."""
    values = query.getlist(name) if isinstance(query, QueryParams) else [query.get(name, "")]
    return " ".join(values).split()
