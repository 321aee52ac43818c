"""The runtimes as a literal table, readable without importing any of them."""

from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from types import ModuleType
from typing import NamedTuple

from edgewright.errors import UsageError
from edgewright.facts.words import runtime_name

ENTRY_POINTS = "edgewright.runtimes"


class Option(NamedTuple):
    """An option of one runtime, given as `-p name=value`."""

    name: str
    values: tuple[str, ...]
    default: str
    text: str


class RuntimeInfo(NamedTuple):
    """What is known of a runtime before it is imported.

    Attributes:
        needs: import names of the packages without which it cannot run.
        distribution: the package whose version is the runtime's.
        extra: Edgewright's extra that brings them; empty where the base install does.
        reads: formats of the models it runs.
        options: its own options; an empty `values` takes any text.
    """

    name: str
    title: str
    module: str
    needs: tuple[str, ...]
    distribution: str
    extra: str
    reads: tuple[str, ...]
    options: tuple[Option, ...] = ()


SWITCH = ("on", "off")

TABLE: dict[str, RuntimeInfo] = {
    "onnxruntime": RuntimeInfo(
        name="onnxruntime",
        title="ONNX Runtime",
        module="edgewright.runtimes.onnxruntime",
        needs=("onnxruntime",),
        distribution="onnxruntime",
        extra="",
        reads=("onnx",),
        options=(
            Option("optimization", ("all", "extended", "basic", "disable"), "all", "graph optimisation level"),
            Option("provider", (), "CPU", "execution provider, as CPU or XNNPACK"),
            Option("execution", ("sequential", "parallel"), "sequential", "order of independent operators"),
            Option("inter-op-threads", (), "1", "threads across operators when execution is parallel"),
            Option("spinning", SWITCH, "on", "whether idle threads of the pool spin"),
            Option("arena", SWITCH, "on", "whether activations come from ONNX Runtime's memory arena"),
        ),
    ),
    "litert": RuntimeInfo(
        name="litert",
        title="LiteRT",
        module="edgewright.runtimes.litert",
        needs=("ai_edge_litert",),
        distribution="ai-edge-litert",
        extra="litert",
        reads=("tflite",),
        options=(Option("delegate", ("xnnpack", "none"), "xnnpack", "XNNPACK, or the built-in kernels alone"),),
    ),
    "pretend": RuntimeInfo(
        name="pretend",
        title="Pretend (a runtime for tests)",
        module="edgewright.runtimes.pretend",
        needs=(),
        distribution="edgewright",
        extra="",
        reads=("onnx", "tflite", "pretend"),
        options=(
            Option("latency-us", (), "200", "median time of one inference"),
            Option("noise", (), "0.02", "relative spread of the times"),
            Option("seed", (), "0", "seed of the spread"),
            Option("warmup", (), "0", "relative extra time of the first inference, halved with each further one"),
            Option("throttle", (), "0", "relative slowdown reached after 200 inferences"),
            Option("fallback", (), "0", "share of the time spent on a fallback backend"),
            Option(
                "fail",
                ("never", "open", "run", "segfault", "exit", "hang", "oom", "chatter"),
                "never",
                "how it fails",
            ),
        ),
    ),
}


def runtime_info(word: str) -> RuntimeInfo:
    """The runtime that `word` names, from the table or from a plug-in; UsageError lists the known ones."""
    name = runtime_name(word)
    if name in TABLE:
        return TABLE[name]
    for info in plugin_runtimes():
        if info.name == name:
            return info
    raise UsageError(
        f"unknown runtime '{word}'",
        f"known: {', '.join(known_runtimes())}",
        "edgewright doctor shows which of them work here",
    )


def plugin_runtimes() -> list[RuntimeInfo]:
    """The runtimes that other packages bring through the entry points `edgewright.runtimes`."""
    from importlib import metadata  # costs more than the rest of this module together

    found = []
    for point in metadata.entry_points(group=ENTRY_POINTS):
        with suppress(Exception):  # a broken plug-in must not take the other runtimes with it; the doctor names it
            found.append(point.load())
    return found


def known_runtimes() -> list[str]:
    return [*TABLE, *(info.name for info in plugin_runtimes())]


def runtime_module(info: RuntimeInfo) -> ModuleType:
    """The runtime's module; its library is not imported by this."""
    return import_module(info.module)


def check_options(info: RuntimeInfo, options: dict[str, str]) -> None:
    """Raise UsageError for an option or a value that the runtime does not know."""
    known = {option.name: option for option in info.options}
    for name, value in options.items():
        if name not in known:
            raise UsageError(
                f"{info.name} has no option '{name}'",
                f"known: {', '.join(known) or 'none'}",
                describe_options(info.options),
            )
        values = known[name].values
        if values and value not in values:
            raise UsageError(
                f"{info.name} cannot take {name}={value}",
                f"known values: {', '.join(values)}",
                f"-p {name}={values[0]}",
            )


def describe_options(options: Sequence[Option]) -> str:
    return "; ".join(f"-p {o.name}={'|'.join(o.values) or o.default} ({o.text})" for o in options)
