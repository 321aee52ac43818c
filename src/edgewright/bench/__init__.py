"""Measure honestly: sessions, steady state, statistics, verdicts, warnings, energy."""
