"""The signal-to-noise ratio (SQNR) of changed values, in decibels."""

from math import isfinite, log10

EQUAL_DB = 200.0  # the largest value, which stands for bitwise equality


def compute_sqnr_db(signal: float, noise: float) -> float:
    """Return 10 log10 of the power of a signal over that of the difference from it, within ±`EQUAL_DB`."""
    if noise <= 0.0:
        return EQUAL_DB
    if signal <= 0.0 or not isfinite(noise):
        return -EQUAL_DB
    return min(EQUAL_DB, 10 * log10(signal / noise))
