"""Similarity of two models' outputs, computed chunk by chunk."""

from collections.abc import Mapping

import numpy as np

from edgewright.schema.arrays import Array
from edgewright.schema.metrics import compute_sqnr_db
from edgewright.tasks.metrics.metrics import Score, is_same_class, make_agreement_score


class OutputAgreement:
    """Sums over chunks of two models' outputs."""

    def __init__(self, classes: str | None) -> None:
        """Create empty sums; `classes` is the output with class scores, or None."""
        self._classes = classes
        self._hits = self._vectors = 0
        self._signal: dict[str, float] = {}
        self._noise: dict[str, float] = {}

    def add(self, reference: Mapping[str, Array], other: Mapping[str, Array]) -> None:
        """Add some samples, [n, …] each."""
        for name, array in reference.items():
            if array.dtype.kind not in "fiub" or name not in other or other[name].shape != array.shape:
                continue
            a, b = array.astype(np.float64), other[name].astype(np.float64)
            valid = np.isfinite(a) & np.isfinite(b)
            a, b = np.where(valid, a, 0.0), np.where(valid, b, 0.0)
            self._signal[name] = self._signal.get(name, 0.0) + float(np.vdot(a, a))
            self._noise[name] = self._noise.get(name, 0.0) + float(np.vdot(a - b, a - b))
        if self._classes is not None and self._classes in other:
            same = is_same_class(reference[self._classes], other[self._classes])
            self._hits, self._vectors = self._hits + int(same.sum()), self._vectors + len(same)

    def agreement(self) -> Score | None:
        return make_agreement_score(self._hits, self._vectors) if self._vectors else None

    def sqnr_db(self) -> float | None:
        """Return the SQNR of the worst output: power of the reference over that of the difference, over all samples."""
        figures = [compute_sqnr_db(self._signal[name], self._noise[name]) for name in self._signal]
        return min(figures, default=None)
