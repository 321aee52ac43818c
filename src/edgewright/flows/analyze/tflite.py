"""The ONNX form of a TFLite file, from which runtimes other than LiteRT are compiled."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from edgewright.flows.analyze.partitions import LinkedOperators, link_operators, make_item
from edgewright.flows.analyze.report import SupportFinding
from edgewright.flows.analyze.source import ModelForm, prepare_analysis
from edgewright.formats.onnx.typed import read_onnx_graph
from edgewright.formats.tflite.schema import INCLUDED_CUSTOM, is_custom
from edgewright.formats.tflite.to_onnx.read import convert_tflite
from edgewright.limits import ResourceBudget
from edgewright.runtimes.support import UnsupportedReason

SOURCE = "docs/tflite-sources.md"


def make_onnx_form(
    path: Path, shapes: Mapping[str, Sequence[int | str]], folder: Path, budget: ResourceBudget
) -> ModelForm:
    """Convert the file as `compile` does, with the sizes that are known."""
    to = folder / "converted.onnx"
    known = {name: [size for size in sizes if isinstance(size, int)] for name, sizes in shapes.items()}
    whole = {name: sizes for name, sizes in known.items() if len(sizes) == len(shapes[name])}
    rejected = convert_tflite(path, whole, to, budget).rejected
    if rejected:
        findings = tuple(
            SupportFinding(
                node=one.node, op=one.op, kind="operator", reason=one.reason, remedy=one.remedy, source=SOURCE
            )
            for one in rejected
        )
        return ModelForm(to, None, link_operators([]), findings)
    ready = prepare_analysis(to, whole, {}, folder)
    graph = read_onnx_graph(ready, {}, budget)
    return ModelForm(ready, graph, link_operators([make_item(graph, node) for node in graph.computing()]))


def find_custom_operators(source: LinkedOperators) -> dict[str, UnsupportedReason]:
    """Return why LiteRT does not run the custom operators that it does not include, by their names."""
    reason = UnsupportedReason(
        kind="operator",
        reason="it is a custom operator that LiteRT does not include",
        remedy="export the model without it; an application can register a library of custom operators",
        source=SOURCE,
    )
    subjects = [item.subject for item in source.items]
    return {one.name: reason for one in subjects if is_custom(one.op) and one.op not in INCLUDED_CUSTOM}
