"""Tuning of OpenCL kernels on the device at hand: generated variants, correctness first, measured, cached."""
