"""The command line: one file per command."""

from edgewright.cli.app import main

__all__ = ["main"]
