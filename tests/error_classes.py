"""Edgewright's error classes and their exit codes."""

from edgewright import errors
from edgewright.errors import EdgewrightError


def all_classes(top: type[EdgewrightError] = EdgewrightError) -> list[type[EdgewrightError]]:
    return [top, *(found for child in top.__subclasses__() for found in all_classes(child))]


OURS = [kind for kind in all_classes() if kind.__module__ == errors.__name__]
EXIT_CODES = {0, *(kind.exit_code for kind in OURS)}
