"""Lineage from runs as they are stored, which may be imported and lead in a ring."""

import msgspec

from edgewright.flows.lineage import trace_lineage
from edgewright.schema.run import Run, RunOutput
from edgewright.store.runs.ids import new_run_id
from edgewright.store.store import Store
from tests.web.records import make_model, make_run


def made(parent: str, child: str, kind: str, **changes: str) -> Run:
    """A run that makes `child` from `parent`, models of one letter."""
    output = RunOutput(role="model", sha256=child * 64, bytes=9, model_id=child * 64)
    run = msgspec.structs.replace(make_run(samples=0, layers=0), id=new_run_id(), kind=kind, series=(), **changes)
    return msgspec.structs.replace(run, model=make_model(f"{parent}.onnx", parent), outputs=(output,))


def test_the_newest_source_is_shown(store: Store) -> None:
    old = made("a", "c", "compile", started_at="2026-11-19T10:00:00.000000+00:00")
    new = made("b", "c", "quantize")
    last = made("c", "d", "prune")
    store.record([old, new, last])
    lineage = trace_lineage(last, store)
    assert [(one.name, one.kind, one.run_id, one.output) for one in lineage.made_from] == [
        ("b.onnx", "quantize", new.id, "model")
    ]
    assert lineage.made_into == ()
    (into,) = trace_lineage(old, store).made_into
    assert (into.name, into.model_id, into.kind) == ("d" * 12, "d" * 64, "prune")


def test_a_ring_comes_to_an_end(store: Store) -> None:
    runs = [made("a", "b", "prune"), made("b", "c", "prune"), made("c", "a", "prune")]
    store.record(runs)
    assert [one.name for one in trace_lineage(runs[0], store).made_from] == ["c.onnx", "b.onnx"]


def test_a_run_without_a_model_has_none(store: Store) -> None:
    run = msgspec.structs.replace(make_run(samples=0, layers=0), model=None, series=())
    assert trace_lineage(run, store).made_from == ()
