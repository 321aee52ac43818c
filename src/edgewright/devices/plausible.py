"""Which results of a device cannot have been measured."""

from edgewright.runtimes import wire

MOST_NS = 1e15  # 11 days


def are_times_possible(command: wire.Command, result: wire.Result) -> bool:
    """Return whether times answer the command and lie in a range that clocks have; True for other results."""
    if not isinstance(command, wire.TimeRuns) or not isinstance(result, wire.Times):
        return True
    wall, cpu = result.wall_ns, result.cpu_ns
    in_range = all(0 <= one < MOST_NS for one in (*wall, *cpu, result.missed))
    return 0 < len(wall) <= command.runs and len(cpu) in (0, len(wall)) and in_range and 0 <= result.error_ns < 1e12
