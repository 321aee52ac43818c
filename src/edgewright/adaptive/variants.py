"""Variants of a bundle in this process, by the names and layouts of their source."""

import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgewright.adaptive.bundle import Variant
from edgewright.errors import ModelRejected
from edgewright.formats.artifacts import find_record
from edgewright.runtimes.contract import Rejected
from edgewright.runtimes.table import find_runtime, import_runtime
from edgewright.runtimes.wire import SessionRequest
from edgewright.schema.arrays import Array
from edgewright.schema.artifact import Port
from edgewright.schema.model import TensorSpec
from edgewright.tasks.data.ports import feed_artifact, read_artifact_outputs

TRIAL_S, TRIAL_RUNS = 1.0, 50
FLEXIBLE = 1  # size of an input without a fixed one


class LoadedVariant:
    """A variant that is loaded and has run once.

    Args:
        options: of the runtime; those that it does not have are left out.

    Raises:
        ModelRejected: the runtime does not load it. RuntimeMissing, ModelUnreadable.
    """

    def __init__(self, folder: Path, variant: Variant, threads: int = 1, options: Mapping[str, str] = {}) -> None:
        self.name = variant.name
        path, info = folder / variant.path, find_runtime(variant.runtime)
        known = {one.name: one.values for one in info.options}
        own = {name: value for name, value in options.items() if value in known.get(name, ())}
        self._record = find_record(path)
        try:
            self._session = import_runtime(info).open_session(
                SessionRequest(model=str(path), threads=threads, options=own, model_bytes=variant.bytes)
            )
        except Rejected as error:
            raise ModelRejected(f"{info.name} rejects {path.name}", str(error)) from error
        self(self.make_inputs())

    def __call__(self, inputs: Mapping[str, Array], /) -> Mapping[str, Array]:
        """Return the outputs by name."""
        record = self._record
        self._session.bind(feed_artifact(inputs, record.io_map) if record else inputs)
        self._session.run()
        outputs: dict[str, Array] = self._session.fetch()
        return read_artifact_outputs(outputs, record.io_map) if record else outputs

    def make_inputs(self) -> dict[str, Array]:
        """Return inputs of zeros."""
        if self._record is not None:
            return dict(map(_make_source_zeros, self._record.io_map.inputs))
        return dict(map(_make_zeros, self._session.signature.inputs))

    def measure(self) -> float:
        """Return the median time of an inference in microseconds, measured for at most a second."""
        inputs, times, end = self.make_inputs(), list[float](), time.monotonic() + TRIAL_S
        while len(times) < TRIAL_RUNS and (not times or time.monotonic() < end):
            start = time.perf_counter()
            self(inputs)
            times.append((time.perf_counter() - start) * 1e6)
        return statistics.median(times)

    def close(self) -> None:
        """Free the session."""
        self._session.close()


def _make_source_zeros(port: Port) -> tuple[str, Any]:
    shape = [FLEXIBLE if size < 0 else size for size in port.source_shape]
    return port.source, np.zeros(shape, port.source_dtype)


def _make_zeros(spec: TensorSpec) -> tuple[str, Any]:
    shape = [FLEXIBLE if isinstance(size, str) else size for size in spec.shape]
    return spec.name, np.full(shape, "", object) if spec.dtype == "str" else np.zeros(shape, spec.dtype)
