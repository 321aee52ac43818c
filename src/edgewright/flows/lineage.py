"""Where the model of a run comes from, and what was made from what the run put out."""

from msgspec import Struct

from edgewright.schema.run import Run
from edgewright.store.runs.browse import LineageLink
from edgewright.store.store import Store

MAX_STEPS = 20


class LineageStep(Struct, frozen=True, kw_only=True):
    """A model that another one was made from or into, and the run that did it.

    Attributes:
        name: of the model, as the run that made something from it calls it; else as the record does; else the first
            digits of its hash.
        kind, runtime: of the run `run_id`.
        output: the role that what was made has among the outputs of that run.
    """

    model_id: str
    name: str
    run_id: str
    kind: str
    runtime: str
    output: str


class Lineage(Struct, frozen=True, kw_only=True):
    """What a record tells of a run's model.

    Attributes:
        made_from: what the run's model was made from, what that was made from, and so on; one way where there are
            several, the newest.
        made_into: what was made from the run's outputs.
    """

    made_from: tuple[LineageStep, ...]
    made_into: tuple[LineageStep, ...]


def trace_lineage(run: Run, store: Store) -> Lineage:
    """Two queries, however long the way is."""
    links = store.list_links()  # the newest first
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
