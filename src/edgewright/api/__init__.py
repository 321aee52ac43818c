"""The public Python API: the verbs of the command line as functions, with results that show themselves.

The names that `edgewright` exports are stable; all else in this package is private.
"""
