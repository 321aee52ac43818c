"""Limits on the life and the memory of a child process."""

import sys

from edgewright.limits import read_budget
from edgewright.system import memory_limit
from edgewright.system.parent import die_with_parent

COPIES = 20  # of the model's bytes, as measured


def confine_process(model_bytes: int) -> None:
    """Let this process end with its parent, and limit its memory to what a model of this size can require.

    A graph that MNN misreads can request all memory. Only Linux supports both; other systems are unchanged.
    """
    if sys.platform != "linux":
        return
    die_with_parent()
    memory_limit.limit_this_process(read_budget().memory_bytes + memory_limit.SPARE_BYTES + COPIES * model_bytes)
