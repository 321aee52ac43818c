"""The runtimes as a literal table, readable without importing any of them."""

from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from types import ModuleType
from typing import NamedTuple

from edgewright.errors import UsageError, name_installer
from edgewright.schema.text import suggest
from edgewright.schema.vocabulary import Precision, normalize_runtime_name

ENTRY_POINTS = "edgewright.runtimes"


class Option(NamedTuple):
    """An option of one runtime, given as `-p name=value`."""

    name: str
    values: tuple[str, ...]
    default: str
    text: str


class Converter(NamedTuple):
    """One of several converters of a runtime, chosen by `-p converter=NAME`.

    Attributes:
        compiles: source formats that it supports.
        environment: the isolated environment that it runs in; empty for our own.
    """

    name: str
    compiles: tuple[str, ...]
    environment: str = ""


class RuntimeInfo(NamedTuple):
    """Properties of a runtime that are known without its import.

    Attributes:
        needs: import names of the packages without which it cannot run.
        distribution: the package whose version is the runtime's.
        extra: Edgewright's extra that installs them; empty if the base install does.
        install: the command that installs all of it; `pip install DISTRIBUTION` if it is empty.
        reads: formats of the models that it runs.
        options: its own options; with empty `values` any text is valid.
        compiles: source formats of its `compile`; empty if it has none.
        writes: format of its artifacts.
        precisions: those of `compile`.
        suffix: of an artifact's main file.
        compile_needs: import names of packages that `compile` needs beyond `needs`.
        compile_tools: distributions whose versions determine the result of `compile`.
        compile_options: options of `compile`.
        converters: if there are several, the default first, whose formats are `compiles`.
        systems: systems (`platform.system()`) that can run it; empty for all.
    """

    name: str
    title: str
    module: str
    needs: tuple[str, ...]
    distribution: str
    extra: str
    reads: tuple[str, ...]
    options: tuple[Option, ...] = ()
    compiles: tuple[str, ...] = ()
    writes: str = ""
    precisions: tuple[Precision, ...] = ()
    suffix: str = ""
    compile_needs: tuple[str, ...] = ()
    compile_tools: tuple[str, ...] = ()
    compile_options: tuple[Option, ...] = ()
    converters: tuple[Converter, ...] = ()
    systems: tuple[str, ...] = ()
    install: str = ""


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
            Option("optimization", ("all", "extended", "basic", "disable"), "all", "graph optimization level"),
            Option("provider", (), "CPU", "execution provider, for example CPU or XNNPACK"),
            Option("execution", ("sequential", "parallel"), "sequential", "order of independent operators"),
            Option("inter-op-threads", (), "1", "threads across operators if execution is parallel"),
            Option("spinning", SWITCH, "on", "whether idle threads of the pool spin"),
            Option("arena", SWITCH, "on", "whether activations use ONNX Runtime's memory arena"),
            Option("weights", ("copied", "mapped"), "copied", "whether weights are copied, or mapped from a file"),
        ),
        compiles=("onnx",),
        writes="onnx",
        precisions=("fp32", "fp16", "w8a8", "w8a8-dynamic", "w8a16", "w8", "w4", "w4a8"),
        suffix=".onnx",
        compile_tools=("onnx", "onnxruntime"),
        compile_options=(
            Option(
                "io",
                ("source", "integer"),
                "source",
                "float inputs and outputs as in the source, or quantized integers",
            ),
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
        options=(
            Option(
                "delegate",
                ("xnnpack", "none", "webgpu", "webnn"),
                "xnnpack",
                "XNNPACK, or the built-in kernels alone; WebGPU and WebNN in browsers",
            ),
        ),
        compiles=("onnx", "tflite"),
        writes="tflite",
        precisions=("fp32", "fp16", "w8a8", "w8a16", "w8", "w4", "w4a8"),
        suffix=".tflite",
        compile_tools=("onnx", "ai-edge-litert", "flatbuffers"),
        compile_options=(
            Option(
                "io",
                ("channels-last", "source", "integer"),
                "channels-last",
                "order of image axes; integer: channels last, quantized integers",
            ),
            Option("converter", ("writer", "onnx2tf", "litert-torch"), "writer", "converter that writes the file"),
        ),
        converters=(
            Converter("writer", ("onnx", "tflite")),
            Converter("onnx2tf", ("onnx",), "onnx2tf"),
            Converter("litert-torch", ("torch",), "litert-torch"),
        ),
    ),
    "ncnn": RuntimeInfo(
        name="ncnn",
        title="ncnn",
        module="edgewright.runtimes.ncnn",
        needs=("ncnn",),
        distribution="ncnn",
        extra="ncnn",
        reads=("ncnn",),
        options=(
            Option("vulkan", ("off", "on"), "off", "device; Vulkan if available"),
            Option(
                "storage", ("auto", "fp32", "fp16", "bf16"), "auto", "type of activations; auto: that of the weights"
            ),
            Option("winograd", SWITCH, "on", "whether convolutions may use Winograd's algorithm"),
        ),
        compiles=("onnx",),
        writes="ncnn",
        precisions=("fp32", "fp16", "w8a8"),
        suffix=".param",
        compile_needs=("pnnx",),
        compile_tools=("onnx", "pnnx", "ncnn"),
        compile_options=(
            Option("depthwise", ("int8", "fp32"), "int8", "precision of depthwise convolutions in a w8a8 model"),
        ),
        install="pip install ncnn pnnx",
    ),
    "mnn": RuntimeInfo(
        name="mnn",
        title="MNN",
        module="edgewright.runtimes.mnn",
        needs=("MNN",),
        distribution="mnn",
        extra="mnn",
        reads=("mnn",),
        options=(
            Option("backend", ("CPU", "OpenCL", "Vulkan"), "CPU", "backend, if the build of MNN includes it"),
            Option("precision", ("high", "normal", "low"), "high", "low allows half precision"),
            Option("memory", ("normal", "low", "high"), "normal", "low keeps quantized weights packed"),
            Option("power", ("normal", "high", "low"), "normal", "preferred CPU cores of a phone"),
        ),
        compiles=("onnx",),
        writes="mnn",
        precisions=("fp32", "fp16", "w8a8"),
        suffix=".mnn",
        compile_tools=("onnx", "mnn"),
    ),
    "openvino": RuntimeInfo(
        name="openvino",
        title="OpenVINO",
        module="edgewright.runtimes.openvino",
        needs=("openvino",),
        distribution="openvino",
        extra="openvino",
        reads=("openvino",),
        options=(
            Option("device", ("CPU", "GPU", "NPU", "AUTO"), "CPU", "device that runs the model"),
            Option("performance-hint", ("latency", "throughput"), "latency", "optimization target of OpenVINO"),
            Option("inference-precision", ("f32", "f16", "bf16"), "f32", "precision of float operations"),
            Option("streams", (), "1", "number of inferences that run concurrently, or auto"),
        ),
        compiles=("onnx",),
        writes="openvino",
        precisions=("fp32", "fp16", "w8a8", "w8", "w4", "w4a8"),
        suffix=".xml",
        compile_tools=("openvino",),
    ),
    "executorch": RuntimeInfo(
        name="executorch",
        title="ExecuTorch",
        module="edgewright.runtimes.executorch",
        needs=("executorch", "torch"),
        distribution="executorch",
        extra="executorch",
        reads=("executorch",),
        compiles=("onnx", "torch"),
        writes="executorch",
        precisions=("fp32", "fp16", "w8a8"),
        suffix=".pte",
        compile_tools=("onnx", "executorch", "torch"),
        compile_options=(Option("weights", (), "", "state_dict of a torch source FILE.py:FACTORY"),),
        install="pip install torch==2.13.0 onnxscript && pip install executorch",
    ),
    "coreml": RuntimeInfo(
        name="coreml",
        title="Core ML",
        module="edgewright.runtimes.coreml",
        needs=("coremltools",),
        distribution="coremltools",
        extra="coreml",
        reads=("coreml",),
        options=(Option("units", ("all", "cpu", "cpu-gpu", "cpu-npu"), "all", "compute units that Core ML may use"),),
        compiles=("onnx", "torch"),
        writes="coreml",
        precisions=("fp32", "fp16"),
        suffix=".mlpackage",
        compile_needs=("torch",),
        compile_tools=("onnx", "coremltools", "torch"),
        compile_options=(
            Option("weights", (), "", "state_dict of a torch source FILE.py:FACTORY"),
            Option("target", ("iOS16", "iOS15", "iOS17", "iOS18"), "iOS16", "oldest system that can run the package"),
        ),
        install="pip install torch==2.13.0 onnxscript && pip install coremltools",
        systems=("Darwin",),
    ),
    "torch": RuntimeInfo(
        name="torch",
        title="torch (from torch sources to ONNX)",
        module="edgewright.runtimes.torch",
        needs=("torch",),
        distribution="torch",
        extra="torch",
        reads=(),
        compiles=("torch",),
        writes="onnx",
        precisions=("fp32",),
        suffix=".onnx",
        compile_needs=("onnxscript",),
        compile_tools=("onnx", "torch", "onnxscript"),
        compile_options=(Option("weights", (), "", "state_dict of a torch source FILE.py:FACTORY"),),
        install="pip install torch==2.13.0 onnxscript",
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
            Option("seed", (), "0", "random seed of the spread"),
            Option("warmup", (), "0", "relative extra time of the first inference, halved with each following one"),
            Option("throttle", (), "0", "relative slowdown reached after 200 inferences"),
            Option("fallback", (), "0", "share of the time spent on a fallback backend"),
            Option(
                "fail",
                ("never", "open", "run", "segfault", "exit", "hang", "oom", "chatter"),
                "never",
                "kind of failure",
            ),
        ),
        compiles=("onnx",),
        writes="pretend",
        precisions=("fp32",),
        suffix=".pretend",
        compile_tools=("edgewright",),
        compile_options=(
            Option(
                "fail",
                ("never", "refuse", "nothing", "run", "segfault", "exit", "hang", "oom", "chatter"),
                "never",
                "kind of compilation failure",
            ),
        ),
    ),
}


def find_runtime(word: str) -> RuntimeInfo:
    """Return the runtime with the name or alias `word`, from the table or from a plug-in. Raises UsageError with the
    known ones."""
    name = normalize_runtime_name(word)
    if name in TABLE:
        return TABLE[name]
    for info in _plugin_runtimes():
        if info.name == name:
            return info
    raise UsageError(
        f"unknown runtime '{word}'{suggest(name, known_runtimes())}",
        f"known: {', '.join(known_runtimes())}",
        "edgewright doctor shows which runtimes work here",
    )


def _plugin_runtimes() -> list[RuntimeInfo]:
    """Return the runtimes of other packages, from the entry points `edgewright.runtimes`."""
    from importlib import metadata  # its import takes longer than the rest of this module

    found = []
    for point in metadata.entry_points(group=ENTRY_POINTS):
        with suppress(Exception):  # a broken plug-in must not disable the other runtimes; the doctor reports it
            found.append(point.load())
    return found


def make_install_command(info: RuntimeInfo) -> str:
    """Return the command that installs a runtime's own packages, since an extra works only if Edgewright comes
    from."""
    return name_installer(info.install or f"pip install {info.distribution}")


def known_runtimes() -> list[str]:
    return [name for name, info in TABLE.items() if info.reads] + [info.name for info in _plugin_runtimes()]


def import_runtime(info: RuntimeInfo) -> ModuleType:
    """Return the runtime's module without importing its library."""
    return import_module(info.module)


def check_options(info: RuntimeInfo, options: dict[str, str]) -> None:
    """Raise UsageError for an unknown option or value of the runtime."""
    _check_among(info.name, info.options, options)


def check_compile_options(info: RuntimeInfo, options: dict[str, str]) -> None:
    """Raise UsageError for an unknown option or value of the runtime's compiler."""
    _check_among(f"compiling for {info.name}", info.compile_options, options)


def _check_among(owner: str, declared: Sequence[Option], options: dict[str, str]) -> None:
    known = {option.name: option for option in declared}
    for name, value in options.items():
        if name not in known:
            raise UsageError(
                f"{owner} has no option '{name}'{suggest(name, known)}",
                f"known: {', '.join(known) or 'none'}",
                _describe_options(declared),
            )
        values = known[name].values
        if values and value not in values:
            raise UsageError(
                f"{owner} does not support {name}={value}{suggest(value, values)}",
                f"known values: {', '.join(values)}",
                f"-p {name}={values[0]}",
            )


def _describe_options(options: Sequence[Option]) -> str:
    return "; ".join(f"-p {o.name}={'|'.join(o.values) or o.default} ({o.text})" for o in options)
