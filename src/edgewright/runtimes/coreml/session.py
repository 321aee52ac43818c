"""Session of a package in Core ML, on macOS."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewright.runtimes.contract import Rejected, check_feeds
from edgewright.runtimes.coreml.library import load_library, silence_library
from edgewright.runtimes.coreml.package import read_spec
from edgewright.runtimes.wire import SessionRequest
from edgewright.schema.model import Signature, TensorSpec

UNITS = {"all": "ALL", "cpu": "CPU_ONLY", "cpu-gpu": "CPU_AND_GPU", "cpu-npu": "CPU_AND_NE"}
# FeatureTypes.proto ArrayFeatureType.ArrayDataType
TYPES = {65552: "float16", 65568: "float32", 65600: "float64", 131104: "int32"}
THREADS = "Core ML chooses its number of threads itself: --threads has no effect"
NOT_MACOS_REASON = "Core ML runs only on macOS; this system is {system}. The package can be compiled here"


class CoremlSession:
    """A loaded package; see `contract.Session`. `run` is one `predict` of coremltools, which copies inputs and
    outputs."""

    signature: Signature
    notes: Sequence[str]

    def __init__(self, request: SessionRequest, system: str = sys.platform) -> None:
        if system != "darwin":
            raise Rejected(NOT_MACOS_REASON.format(system=system))
        self._model: Any = _load_model(request)
        self.signature = _read_signature(Path(request.model))
        self.notes = (THREADS,)
        self._feeds: dict[str, NDArray[Any]] = {}
        self._outputs: dict[str, Any] = {}

    def bind(self, feeds: Mapping[str, NDArray[Any]]) -> None:
        check_feeds(self.signature, feeds)
        self._feeds = {name: np.array(array, order="C", copy=True) for name, array in feeds.items()}

    def run(self) -> None:
        self._outputs = self._model.predict(self._feeds)

    def fetch(self) -> dict[str, NDArray[Any]]:
        """Return the outputs of the last run, as copies."""
        return {
            spec.name: np.array(self._outputs[spec.name]).astype(spec.dtype, copy=False)
            for spec in self.signature.outputs
        }

    def close(self) -> None:
        self._model = None


def _load_model(request: SessionRequest) -> Any:
    library = load_library()
    units = library.ComputeUnit[UNITS[request.options.get("units", "all")]]
    try:
        with silence_library():
            return library.models.MLModel(request.model, compute_units=units)
    except Exception as error:  # coremltools raises exceptions of any class
        raise Rejected(str(error).strip() or type(error).__name__) from error


def _read_signature(package: Path) -> Signature:
    description = read_spec(package / "Data" / "com.apple.CoreML" / "model.mlmodel").description
    return Signature(inputs=_read_specs(description.input), outputs=_read_specs(description.output))


def _read_specs(values: Any) -> tuple[TensorSpec, ...]:
    arrays = [(value.name, value.type.multiArrayType) for value in values]
    return tuple(
        TensorSpec(name=name, dtype=TYPES.get(kind.dataType, "unknown"), shape=tuple(int(size) for size in kind.shape))
        for name, kind in arrays
    )
