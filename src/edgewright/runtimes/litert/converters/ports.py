"""Mapping of a file's inputs and outputs to the source's, if the converter does not report it, by running the file.

A converter may transpose any of them. If sizes are equal, names and shapes do not determine the order of axes. So the
file is run on the source's inputs, and the order with the smallest difference of outputs is used.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice, permutations, product
from math import prod
from pathlib import Path
from typing import NamedTuple

import numpy as np
from msgspec.structs import replace

from edgewright.formats.tflite.reader import read_signature
from edgewright.runtimes.contract import NotConvertible
from edgewright.runtimes.litert.session import LiteRtSession
from edgewright.runtimes.wire import SessionRequest
from edgewright.schema.arrays import Array
from edgewright.schema.artifact import IoMap, Port
from edgewright.schema.model import TensorSpec
from edgewright.tasks.data.ports import to_artifact, to_source

Axes = tuple[int, ...]
# Far above the rounding errors of other kernels, far below the difference of another order of axes.
NEAR = 1e-2
MOST_RUNS = 64


class ReferenceIo(NamedTuple):
    """The source's inputs and the outputs on them, by name in the source's order.

    Attributes:
        names: names of inputs and outputs in the file, by those in the source.
    """

    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]
    names: Mapping[str, str]


class PortMatch(NamedTuple):
    """A candidate mapping of a file, and the relative 2-norm difference of its worst output from the source's."""

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    distance: float


def match_ports(path: Path, reference: ReferenceIo) -> tuple[IoMap, tuple[str, ...]]:
    """Return the map of a file's inputs and outputs, and notes about it.

    Raises NotConvertible if the file has other inputs or outputs than the source.
    """
    signature = read_signature(path)
    specs_in = {spec.name: spec for spec in signature.inputs}
    specs_out = {spec.name: spec for spec in signature.outputs}
    _check_names(reference, specs_in, specs_out)
    session = LiteRtSession(SessionRequest(model=str(path)))
    choices = [
        list(_input_ports(name, array, specs_in[reference.names[name]])) for name, array in reference.inputs.items()
    ]
    best: PortMatch | None = None
    for ports in islice(product(*choices), MOST_RUNS):
        match = _try_ports(session, ports, reference, specs_out)
        if best is None or match.distance < best.distance:
            best = match
        if best.distance < NEAR:
            break
    session.close()
    if best is None:
        raise NotConvertible(f"the inputs of {path.name} do not fit those of the source")
    far = best.distance >= NEAR
    note = f"on generated inputs the file's outputs differ from the source's by {best.distance:.2g} (relative, 2-norm)"
    return IoMap(inputs=best.inputs, outputs=best.outputs), ((note,) if far else ())


def _check_names(
    reference: ReferenceIo, specs_in: Mapping[str, TensorSpec], specs_out: Mapping[str, TensorSpec]
) -> None:
    for what, wanted, found in (("input", reference.inputs, specs_in), ("output", reference.outputs, specs_out)):
        if lacking := [name for name in wanted if reference.names[name] not in found]:
            raise NotConvertible(
                f"the converter's file has no {what} '{lacking[0]}'; it has {', '.join(found) or 'none'}",
                f"it may be constant, or a copy of another {what}",
            )


def _input_ports(name: str, array: Array, spec: TensorSpec) -> Iterator[Port]:
    """Yield the possible layouts of an input, the likely ones first: the source's, or with channels last."""
    rank = array.ndim
    orders = dict.fromkeys([_channels_last(rank), tuple(range(rank))])
    for axes in orders:
        if _fits(array.shape, axes, spec):
            yield _make_port(name, array, axes, spec)


def _output_port(name: str, wanted: Array, spec: TensorSpec, given: Array) -> tuple[Port, float]:
    """Return the order of axes with the smallest difference from the source's output, and that difference."""
    rank = wanted.ndim
    spec = replace(spec, shape=given.shape)  # the shape in the file may be wrong
    orders = dict.fromkeys([_channels_last(rank), tuple(range(rank)), *(permutations(range(rank)) if rank < 6 else ())])
    ports = [_make_port(name, wanted, axes, spec) for axes in orders if _fits(wanted.shape, axes, spec)]
    if not ports:
        raise NotConvertible(
            f"output '{name}' has shape {list(wanted.shape)} in the source and {list(given.shape)} in the file"
        )
    found = [(port, distance(to_source(given, port), wanted)) for port in ports]
    return min(found, key=lambda pair: pair[1])


def _try_ports(
    session: LiteRtSession, ports: Sequence[Port], reference: ReferenceIo, specs: Mapping[str, TensorSpec]
) -> PortMatch:
    session.bind({port.name: to_artifact(reference.inputs[port.source], port) for port in ports})
    session.run()
    given = session.fetch()
    found = [
        _output_port(name, wanted, specs[reference.names[name]], given[reference.names[name]])
        for name, wanted in reference.outputs.items()
    ]
    return PortMatch(tuple(ports), tuple(port for port, _ in found), max((far for _, far in found), default=0.0))


def _channels_last(rank: int) -> Axes:
    """Return the channels-last order of a source's axes: (0, 2, …, 1)."""
    return (0, *range(2, rank), 1) if rank > 2 else tuple(range(rank))


def _fits(shape: Sequence[int], axes: Axes, spec: TensorSpec) -> bool:
    """Return whether the axes in this order have the file's sizes; for another rank, whether they have as many
    values.
    """
    moved = tuple(shape[axis] for axis in axes)
    if len(moved) == len(spec.shape):
        return moved == spec.shape
    return all(isinstance(size, int) for size in spec.shape) and prod(moved) == prod(map(int, spec.shape))


def _make_port(name: str, array: Array, axes: Axes, spec: TensorSpec) -> Port:
    return Port(
        source=name,
        name=spec.name,
        source_shape=array.shape,
        source_dtype=array.dtype.name,
        axes=axes,
        shape=tuple(map(int, spec.shape)),
        dtype=spec.dtype,
        quantization=spec.quantization,
    )


def distance(given: Array, wanted: Array) -> float:
    """Return ‖given − wanted‖ / ‖wanted‖; infinite instead of NaN."""
    a, b = given.astype(np.float64), wanted.astype(np.float64)
    far = float(np.linalg.norm(a - b) / max(float(np.linalg.norm(b)), 1e-12))
    return far if np.isfinite(far) else float("inf")


def make_feed(shape: Sequence[int], dtype: str, seed: int) -> Array:
    """Return seeded values that are valid for any model: normal for floats, 0 and 1 for other types."""
    random = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return random.standard_normal(tuple(shape)).astype(dtype)
    return random.integers(0, 2, tuple(shape)).astype(dtype)
