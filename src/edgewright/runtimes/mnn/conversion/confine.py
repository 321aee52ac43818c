"""Keeps a child process from outliving its parent and from taking the machine's memory."""

import sys

from edgewright.limits import read_budget
from edgewright.system import memory_limit
from edgewright.system.parent import die_with_parent

COPIES = 20  # of the model's bytes, as measured


def confine_process(model_bytes: int) -> None:
    """End with the process that started this one, and allocate no more than a model of this size can require.

    A graph that MNN misreads can ask for all there is. Both are Linux's own; elsewhere nothing is done.
    """
    if sys.platform != "linux":
        return
    die_with_parent()
    memory_limit.limit_this_process(read_budget().memory_bytes + memory_limit.SPARE_BYTES + COPIES * model_bytes)
