"""Lineage of a run's model: what it was made from, and what was made from the run's outputs."""

from msgspec import Struct

from edgewright.schema.run import Run
from edgewright.store.runs.browse import LineageLink
from edgewright.store.store import Store

MAX_STEPS = 20


class LineageStep(Struct, frozen=True, kw_only=True):
    """A model in the lineage, and the run that made it.

    Attributes:
        name: of the model in the run that used it; otherwise in the store; otherwise the first digits of its hash.
        kind, runtime: of the run `run_id`.
        output: the role of the resulting model among the outputs of that run.
    """

    model_id: str
    name: str
    run_id: str
    kind: str
    runtime: str
    output: str


class Lineage(Struct, frozen=True, kw_only=True):
    """The lineage of a run's model.

    Attributes:
        made_from: the model's source, that one's source, and so on; the newest if there are several.
        made_into: the models made from the run's outputs.
    """

    made_from: tuple[LineageStep, ...]
    made_into: tuple[LineageStep, ...]


def trace_lineage(run: Run, store: Store) -> Lineage:
    """Return the lineage with two queries, whatever its length."""
    links = store.list_links()
    makers: dict[str, LineageLink] = {}
    for link in links:
        makers.setdefault(link.child, link)
    above: list[LineageLink] = []
    here = run.model.sha256 if run.model else ""
    seen = {here}
    while (maker := makers.get(here)) and maker.parent not in seen and len(above) < MAX_STEPS:
        above.append(maker)
        here = maker.parent
        seen.add(here)
    own = {one.model_id for one in run.outputs if one.model_id}
    below = [link for link in links if link.parent in own]
    names = store.get_model_names([link.child for link in below]) | {link.parent: link.parent_name for link in links}
    return Lineage(
        made_from=tuple(_make_step(link, link.parent, link.parent_name) for link in above),
        made_into=tuple(_make_step(link, link.child, names.get(link.child, link.child[:12])) for link in below),
    )


def _make_step(link: LineageLink, model_id: str, name: str) -> LineageStep:
    return LineageStep(
        model_id=model_id,
        name=name,
        run_id=link.run_id,
        kind=link.kind,
        runtime=link.runtime,
        output=link.output,
    )
