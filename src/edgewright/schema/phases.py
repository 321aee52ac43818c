"""Phases of an application's inference, from an encoded sample to a result."""

from typing import Any

from msgspec import Struct

PHASES = ("decode", "convert", "copy-in", "inference", "copy-out", "post-processing")


class PhasePlan(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The real samples on which a benchmark times the phases.

    Attributes:
        task: `edgewright.task/1` as plain values.
        data: as the user named it: files only, no function.
    """

    task: dict[str, Any]
    data: str


class PhaseTime(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Median time of a phase over the samples in microseconds, with its 95 % interval."""

    p50: float | None
    low: float | None
    high: float | None
    n: int
