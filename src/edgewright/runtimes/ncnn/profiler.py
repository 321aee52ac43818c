"""Times of ncnn's layers; runs in the worker.

An extractor computes what a blob needs and has not been computed yet. So requesting the outputs of the layers one
after the other takes the time of one layer each.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from time import perf_counter_ns
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

from edgewright.runtimes.contract import Rejected, check_feeds
from edgewright.runtimes.ncnn.param import ParamRow, read_param
from edgewright.runtimes.ncnn.session import import_ncnn, load_net, make_input_specs, to_mat
from edgewright.runtimes.wire import SessionRequest
from edgewright.schema.arrays import Array
from edgewright.schema.model import Signature

WARMUP_RUNS = 5
TRACE = "trace.json"
AS_IT_IS = 1  # extract without converting the blob to float32 in rows


class ProfiledLayer(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A layer and its times, one for each inference; `bytes` is the size of what it wrote."""

    op: str
    name: str
    bottoms: tuple[str, ...]
    tops: tuple[str, ...]
    starts_us: tuple[float, ...]
    times_us: tuple[float, ...]
    bytes: int
    vulkan: bool


class NcnnTrace(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The result of a profiling pass; `runs_us` has the times of whole inferences of the same passes."""

    asked: str
    runs_us: tuple[float, ...]
    layers: tuple[ProfiledLayer, ...]


class ProfiledPass(NamedTuple):
    """One inference: the end of each layer in nanoseconds from the start, and the number of bytes it wrote."""

    ends: list[int]
    sizes: list[int]


def profile_layers(request: SessionRequest, feeds: Mapping[str, Array], runs: int, folder: Path) -> None:
    """Write `trace.json` to `folder`."""
    param = Path(request.model)
    rows = read_param(param)
    check_feeds(Signature(inputs=make_input_specs(rows, request.shapes), outputs=()), feeds)
    net = load_net(param, param.with_suffix(".bin"), lightmode=False, request=request)
    bound = [(name, to_mat(array)) for name, array in feeds.items()]
    ran = [row for row in rows if row.op != "Input"]
    pool = _make_pool()
    passes = [_run_layers(net, ran, bound, pool) for _ in range(WARMUP_RUNS + runs)][WARMUP_RUNS:]
    trace = NcnnTrace(
        asked="Vulkan" if request.options.get("vulkan") == "on" else "ncnn",
        runs_us=tuple(one.ends[-1] / 1e3 for one in passes if one.ends),
        layers=_describe_layers(net, ran, passes),
    )
    (folder / TRACE).write_bytes(msgspec.json.encode(trace))


def _make_pool() -> Any:
    """Return memory for the blobs that each pass uses again, as a plain run does: with all blobs kept, ncnn's own pool
    returns them to the system, and large layers then took twice as long.
    """
    pool = import_ncnn().PoolAllocator()
    pool.set_size_compare_ratio(0.0)
    return pool


def _run_layers(net: Any, rows: Sequence[ParamRow], bound: Sequence[tuple[str, Any]], pool: Any) -> ProfiledPass:
    extractor = net.create_extractor()
    if not net.opt.use_vulkan_compute:
        extractor.set_blob_allocator(pool)
    for name, mat in bound:
        extractor.input(name, mat)
    firsts = [row.tops[0] for row in rows]
    ends, results = [], []
    begin = perf_counter_ns()
    for top in firsts:
        results.append(extractor.extract(top, AS_IT_IS))
        ends.append(perf_counter_ns() - begin)
    failed = [top for top, (code, _) in zip(firsts, results, strict=True) if code]
    sizes = [mat.total() * mat.elemsize for _, mat in results]
    del results, extractor  # blobs in the pool must be freed before it, also if this raises
    if failed:
        raise Rejected(f"ncnn fails at the layer that computes '{failed[0]}'")
    return ProfiledPass(ends, sizes)


def _describe_layers(net: Any, rows: Sequence[ParamRow], passes: Sequence[ProfiledPass]) -> tuple[ProfiledLayer, ...]:
    able = {layer.name: layer.support_vulkan for layer in net.layers()}
    described = []
    for place, row in enumerate(rows):
        starts = [one.ends[place - 1] / 1e3 if place else 0.0 for one in passes]
        times = [one.ends[place] / 1e3 - start for one, start in zip(passes, starts, strict=True)]
        described.append(
            ProfiledLayer(
                op=row.op,
                name=row.name,
                bottoms=row.bottoms,
                tops=row.tops,
                starts_us=tuple(starts),
                times_us=tuple(times),
                bytes=passes[-1].sizes[place] if passes else 0,
                vulkan=bool(net.opt.use_vulkan_compute and able.get(row.name)),
            )
        )
    return tuple(described)
