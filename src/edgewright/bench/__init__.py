"""Measurement: sessions, steady state, statistics, verdicts, warnings, energy."""
