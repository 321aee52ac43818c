"""Keeps a child process from outliving its parent and from taking the machine's memory."""

import sys

from edgewright.system.parent import die_with_parent

GIGABYTE = 2**30


def confine(model_bytes: int) -> None:
    """End with the process that started this one, and allocate no more than a model of this size can want.

    A graph that MNN misreads can ask for all there is. Both are Linux's own; elsewhere nothing is done.
    """
    if sys.platform != "linux":
        return
    import resource

    die_with_parent()
    most = 4 * GIGABYTE + 20 * model_bytes
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (most if hard < 0 else min(most, hard), hard))
