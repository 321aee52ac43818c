"""Execution policies of an app: which variant of a model runs, how often, and when the state changes.

Importable alone: nothing here depends on flows, the store or a runtime.
"""
