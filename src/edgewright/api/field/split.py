"""A network in two parts, for a device and a server: what `edgewright split` calls."""

from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct

from edgewright.api.convert import compile
from edgewright.api.field.profiles import ProfileRequest, SideProfile, ask_profile, profile_here
from edgewright.api.load import load
from edgewright.bench.feeds import fix_batch, make_feeds, resolve_shapes
from edgewright.bench.numerics import compare_outputs
from edgewright.errors import GateFailed, ModelNotConvertible, UsageError
from edgewright.flows.compile.sources import get_stem
from edgewright.formats.files import read_model
from edgewright.formats.onnx.normalize.source import prepare_onnx
from edgewright.formats.onnx.submodel import SubmodelExtractor
from edgewright.placement.split import (
    INPUT,
    NetworkLink,
    SplitProblem,
    SplitTensor,
    find_split,
    find_switches,
    list_prefixes,
    parse_link,
)
from edgewright.schema.arrays import Array
from edgewright.schema.model import Signature
from edgewright.system.files import write_atomically
from edgewright.system.temporary import TemporaryFolder

LEAST_DB = 60.0
CHECK_SAMPLES = 8
MOST_CUTS = 1000
RATES = tuple(float(f"{10 ** (power / 4):.3g}") * 1e5 for power in range(17))  # 0.1 Mbit/s to 1 Gbit/s


class SplitRequest(Struct, frozen=True, kw_only=True):
    """A model, the two sides, and the link between them.

    Attributes:
        between: name of a device, or URL of a server, for each side.
        runtimes: of the head and of the tail.
    """

    model: str
    between: tuple[str, str]
    link: str
    output: str
    runtimes: tuple[str, str] = ("onnxruntime", "onnxruntime")
    shapes: Mapping[str, tuple[int, ...]] = {}
    threads: int = 1
    token: str = ""


class SplitCut(Struct, frozen=True, kw_only=True):
    """One way to cut: the tensors that are sent, their bytes, and the predicted time of an inference."""

    tensors: tuple[str, ...]
    bytes: int
    ms: float


class LinkSwitch(Struct, frozen=True, kw_only=True):
    """What is fastest over a link of this speed: device, server or split."""

    mbit_per_s: float
    fastest: str
    ms: float


class SplitReport(Struct, frozen=True, kw_only=True):
    """A network that was cut (edgewright.split/1).

    Attributes:
        cut: the tensors that are sent. bytes: of these.
        head, tail: artifacts of the two parts.
        predicted_ms: of an inference: head, link both ways, tail.
        fastest: device, server or split, whatever is predicted to be the fastest.
        whole_ms: predicted for the whole network on the device, and on the server.
        cuts: all cuts along the order of execution, the fastest first.
        switches: what is fastest over slower and faster links with the same delay.
        sqnr_db: signal-to-noise ratio of head and tail together against the model.
    """

    schema: str = "edgewright.split/1"
    cut: tuple[str, ...]
    head: str
    tail: str
    bytes: int
    predicted_ms: float
    fastest: str
    whole_ms: dict[str, float]
    device_ms: float
    server_ms: float
    sqnr_db: float
    profiles: tuple[SideProfile, SideProfile]
    cuts: tuple[SplitCut, ...]
    switches: tuple[LinkSwitch, ...]
    answer: str


def make_pair(text: str, option: str) -> tuple[str, str]:
    """Return the two names of a text like `local,http://127.0.0.1:8500`. Raises UsageError."""
    names = [one.strip() for one in text.split(",")]
    if len(names) != 2 or not all(names):
        raise UsageError(f"{option} {text} is not possible", "it has one name for each side", f"{option} A,B")
    return names[0], names[1]


def split(request: SplitRequest, **call: Any) -> SplitReport:
    """Measure a network's nodes on both sides, find the best cut, and write the two parts as artifacts.

    Args:
        **call: `progress` and `cancel`, as for `benchmark`.

    Raises:
        UsageError: an address, a link or a model that cannot be used.
        DeviceUnreachable: a side that does not answer.
        GateFailed: the parts together differ from the whole; the artifacts are written.
        EdgewrightError: a side cannot run the model, or a part cannot be compiled.
    """
    link = parse_link(request.link)
    folder = TemporaryFolder()
    try:
        shapes = _fix_shapes(request)
        path = prepare_onnx(Path(request.model), shapes, folder.path / "whole.onnx")
        extractor = SubmodelExtractor(path)
        profiles = (_profile(path, request, 0, call), _profile(path, request, 1, call))
        problem, members = _make_problem(extractor, profiles, link)
        groups = find_split(problem)
        head, tail = _write_parts(extractor, request, frozenset(n for one in groups for n in members[one]), call)
    finally:
        folder.close()
    sqnr = _check(request.model, (head, tail), shapes)
    report = _report(problem, groups, profiles, (head, tail), sqnr)
    record = Path(request.output) / f"{get_stem(request.model)}.split.json"
    write_atomically(record, msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n")
    if sqnr < LEAST_DB:
        error = GateFailed(
            f"head and tail together differ from {request.model}",
            f"{sqnr:.1f} dB, and at least {LEAST_DB:g} are needed",
            "report it with the model; another --runtime may do",
        )
        error.result = report
        raise error
    return report


def _fix_shapes(request: SplitRequest) -> dict[str, tuple[int, ...]]:
    """Return the sizes of every input. Raises UsageError for a model that is not ONNX."""
    model = read_model(Path(request.model))
    if model.format != "onnx":
        raise UsageError(f"{request.model} cannot be split", "only ONNX models can", "give the ONNX source of it")
    given = {**fix_batch(model.signature, request.shapes), **request.shapes}
    return resolve_shapes(model.signature, given, may_override=True)


def _profile(path: Path, request: SplitRequest, position: int, call: Mapping[str, Any]) -> SideProfile:
    side, runtime = request.between[position], request.runtimes[position]
    asked = ProfileRequest(runtime=runtime, threads=request.threads)
    if "://" in side:
        return ask_profile(path, asked, side, request.token)
    return profile_here(path, asked, side, **call)


def _make_problem(
    extractor: SubmodelExtractor, profiles: tuple[SideProfile, SideProfile], link: NetworkLink
) -> tuple[SplitProblem, dict[str, tuple[str, ...]]]:
    """Return what is to be cut, and the nodes of each of its groups.

    Nodes that a side computes as one layer stay together. Raises ModelNotConvertible if the bytes of a tensor are not
    known before it is computed.
    """
    nodes = extractor.list_computed()
    inputs, outputs = extractor.list_ports()
    groups = _merge({one.name: one.name for one in nodes}, [names for one in profiles for names, _ in one.layers])
    order = _sort_groups(nodes, groups) or {one.name: (one.name,) for one in nodes}
    group_of = {name: group for group, names in order.items() for name in names}
    makers = {name: group_of[one.name] for one in nodes for name in one.output if name} | dict.fromkeys(inputs, INPUT)
    readers: dict[str, list[str]] = {}
    for one in nodes:
        for name in filter(makers.__contains__, one.input):
            readers.setdefault(name, []).append(group_of[one.name])
    tensors = tuple(
        SplitTensor(name, makers[name], tuple(dict.fromkeys(found)), _measure(extractor, name))
        for name, found in readers.items()
        if set(found) != {makers[name]}
    )
    sent_back: dict[str, float] = {}
    for name in outputs:
        if name in makers:
            sent_back[makers[name]] = sent_back.get(makers[name], 0.0) + _measure(extractor, name)
    times = [one.time_nodes() for one in profiles]
    device, server = (
        {group: sum(one.get(name, 0.0) for name in names) for group, names in order.items()} for one in times
    )
    return SplitProblem(tuple(order), device, server, tensors, sent_back, link), order


def _measure(extractor: SubmodelExtractor, tensor: str) -> float:
    size = extractor.measure(tensor)
    if size is None:
        raise ModelNotConvertible(
            f"the size of '{tensor}' is not known before it is computed",
            "a cut is chosen by the bytes of each tensor",
            "fix all sizes: --shape NAME=SIZES",
        )
    return float(size)


def _merge(groups: dict[str, str], layers: list[tuple[str, ...]]) -> dict[str, str]:
    """Return the group of each node, after nodes of one layer were joined."""

    def find(name: str) -> str:
        while groups[name] != name:
            name = groups[name]
        return name

    for names in layers:
        known = [find(one) for one in names if one in groups]
        for one in known[1:]:
            groups[find(one)] = find(known[0])
    return {name: find(name) for name in groups}


def _sort_groups(nodes: list[Any], groups: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """Return the nodes of each group, the groups in an order of execution; empty if there is none."""
    made = {name: groups[one.name] for one in nodes for name in one.output if name}
    before: dict[str, set[str]] = {groups[one.name]: set() for one in nodes}
    members: dict[str, tuple[str, ...]] = {}
    for one in nodes:
        group = groups[one.name]
        before[group] |= {made[name] for name in one.input if name in made} - {group}
        members[group] = (*members.get(group, ()), one.name)
    try:
        return {group: members[group] for group in TopologicalSorter(before).static_order()}
    except CycleError:
        return {}


def _write_parts(
    extractor: SubmodelExtractor, request: SplitRequest, on_device: frozenset[str], call: Mapping[str, Any]
) -> tuple[str, str]:
    """Write head and tail, and compile each; return the artifacts."""
    nodes = extractor.list_computed()
    _, outputs = extractor.list_ports()
    made = {name for one in nodes if one.name in on_device for name in one.output if name}
    read = {name for one in nodes if one.name not in on_device for name in one.input}
    sent = [name for one in nodes for name in one.output if name in made & read]
    here, there = [name for name in outputs if name in made], [name for name in outputs if name not in made]
    folder, stem = Path(request.output), get_stem(request.model)
    folder.mkdir(parents=True, exist_ok=True)
    parts = (("head", (), dict.fromkeys([*sent, *here])), ("tail", sent, dict.fromkeys(there)))
    found = []
    for (part, given, wanted), runtime in zip(parts, request.runtimes, strict=True):
        path = extractor.extract_between(given, tuple(wanted), folder / f"{stem}-{part}.onnx")
        found.append(str(compile(str(path), runtime=runtime, output=str(folder), **call).artifacts[0].path))
    return found[0], found[1]


def _check(model: str, parts: tuple[str, str], shapes: Mapping[str, tuple[int, ...]]) -> float:
    """Return the SQNR of tail after head against the model, on seeded inputs."""
    with load(model) as whole, load(parts[0]) as first, load(parts[1]) as second:
        signature = Signature(inputs=whole.inputs, outputs=whole.outputs)
        pairs = []
        for seed in range(CHECK_SAMPLES):
            feeds = make_feeds(signature, shapes, seed)
            pairs.append((whole(feeds), _run_pair(first, second, feeds)))
    reference, measured = (
        {name: np.stack([pair[side][name] for pair in pairs]) for name in pairs[0][0]} for side in (0, 1)
    )
    return compare_outputs(reference, measured, None).sqnr_db


def _run_pair(head: Any, tail: Any, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """Return the outputs of a model from its two parts, each called with arrays by name."""
    made = head({one.name: feeds[one.name] for one in head.inputs})
    known = {**feeds, **made}
    return {**made, **tail({one.name: known[one.name] for one in tail.inputs})}


def _report(
    problem: SplitProblem,
    groups: frozenset[str],
    profiles: tuple[SideProfile, SideProfile],
    parts: tuple[str, str],
    sqnr: float,
) -> SplitReport:
    best = _describe(problem, groups)
    cuts = sorted([best, *(_describe(problem, one) for one in list_prefixes(problem))], key=lambda one: one.ms)
    unique: dict[tuple[str, ...], SplitCut] = {}
    for one in cuts:
        unique.setdefault(one.tensors, one)
    sides = (frozenset(problem.nodes), frozenset[str]())
    whole = {problem.name_side(side): round(problem.price(side), 4) for side in sides}
    fastest = problem.name_side(min([*sides, groups], key=problem.price))
    return SplitReport(
        cut=best.tensors,
        head=parts[0],
        tail=parts[1],
        bytes=best.bytes,
        predicted_ms=best.ms,
        fastest=fastest,
        whole_ms=whole,
        device_ms=round(sum(problem.device_ms[one] for one in groups), 4),
        server_ms=round(sum(ms for one, ms in problem.server_ms.items() if one not in groups), 4),
        sqnr_db=sqnr,
        profiles=profiles,
        cuts=tuple(unique.values())[:MOST_CUTS],
        switches=tuple(
            LinkSwitch(mbit_per_s=rate / 1e6, fastest=name, ms=round(ms, 4))
            for rate, name, ms in find_switches(problem, RATES)
        ),
        answer=_answer(best, whole, fastest),
    )


def _describe(problem: SplitProblem, on_device: frozenset[str]) -> SplitCut:
    sent = problem.list_crossing(on_device)
    size = int(sum(one.bytes for one in sent))
    return SplitCut(tensors=tuple(one.name for one in sent), bytes=size, ms=round(problem.price(on_device), 4))


def _answer(best: SplitCut, whole: Mapping[str, float], fastest: str) -> str:
    if fastest == "split":
        other = min(whole, key=lambda name: whole[name])
        return f"Split: {best.ms:.3g} ms predicted, {whole[other] / best.ms:.2f} times as fast as all on the {other}."
    return f"All on the {fastest} is faster: {whole[fastest]:.3g} ms predicted, {best.ms:.3g} ms for the best split."
