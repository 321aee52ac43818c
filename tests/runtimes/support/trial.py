"""What the installed runtimes make of probes: `python -m tests.runtimes.support.trial RUNTIME`, names on stdin.

It returns a line of JSON for each probe. A probe that crashes or hangs its process is reported as such, and the rest
goes on in a new one.
"""

import json
import os
import select
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from tests.paths import ROOT
from tests.runtimes.support.bases import Probe
from tests.runtimes.support.models import build
from tests.runtimes.support.probes import probes

MOST_WHY = 300


class Outcome(NamedTuple):
    """`made` are the runtime's own operators that the probe became; `left` those that its fast backend did not take.

    Each is a text `OP` or, for LiteRT, `OP dtype rank`.
    """

    ok: bool
    why: str = ""
    made: tuple[str, ...] = ()
    left: tuple[str, ...] = ()


def try_probes(runtime: str, names: Sequence[str], seconds: float = 60.0) -> dict[str, Outcome]:
    """Each probe in the runtime; one that gives no answer within `seconds` has crashed or hangs."""
    outcomes: dict[str, Outcome] = {}
    waiting = list(names)
    while waiting:
        outcomes.update(run_child(runtime, waiting, seconds))
        waiting = [name for name in names if name not in outcomes]
        if waiting:
            outcomes[waiting.pop(0)] = Outcome(False, "its process crashes or hangs")
    return outcomes


def run_child(runtime: str, names: Sequence[str], seconds: float) -> Iterator[tuple[str, Outcome]]:
    with TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "tests.runtimes.support.trial", runtime, str(ROOT)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "HOME": folder}
        child = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            child.stdin.write("\n".join(names).encode())
            child.stdin.close()
            yield from read_lines(child.stdout, seconds, len(names))
        finally:
            child.kill()
            child.wait()
            child.stdout.close()


def read_lines(stream: Any, seconds: float, count: int) -> Iterator[tuple[str, Outcome]]:
    buffer = b""
    while count:
        ready, _, _ = select.select([stream], [], [], seconds)
        chunk = os.read(stream.fileno(), 65536) if ready else b""
        if not chunk:
            return
        buffer += chunk
        *lines, buffer = buffer.split(b"\n")
        for line in lines:
            count -= 1
            name, ok, why, made, left = json.loads(line)
            yield name, Outcome(ok, why, tuple(made), tuple(left))


# In the child


def main() -> None:
    channel = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    trial = TRIALS.get(sys.argv[1], compile_only)
    by_name = {probe.name: probe for probe in probes()}
    for name in sys.stdin.read().splitlines():
        outcome = attempt(trial, by_name[name])
        channel.write(json.dumps([name, *outcome]) + "\n")


def attempt(trial: "Trial", probe: Probe) -> Outcome:
    import warnings

    warnings.simplefilter("ignore")
    try:
        with TemporaryDirectory() as folder:
            made, left = trial(probe, Path(folder))
    except Exception as error:  # the libraries raise classes of their own
        lines = str(error).strip() or type(error).__name__
        return Outcome(False, f"{type(error).__name__}: {lines}"[:MOST_WHY])
    return Outcome(True, "", tuple(made), tuple(left))


Made = tuple[Sequence[str], Sequence[str]]
Trial = Callable[[Probe, Path], Made]


def write(probe: Probe, folder: Path) -> Path:
    path = folder / "probe.onnx"
    path.write_bytes(build(probe).SerializeToString())
    return path


def compile_probe(probe: Probe, folder: Path) -> Path:
    """The probe through the runtime's own `compile`; the artifact's main file."""
    from edgewright.runtimes.table import find_runtime, import_runtime
    from edgewright.runtimes.wire import CompileRequest

    out = folder / "out"
    out.mkdir()
    request = CompileRequest(
        source=str(write(probe, folder)),
        format="onnx",
        precision="fp32",
        shapes=shapes_of(probe),
        folder=str(out),
        stem="probe",
    )
    return out / str(import_runtime(find_runtime(sys.argv[1])).compile(request).main)


def shapes_of(probe: Probe) -> dict[str, tuple[int, ...]]:
    computed = [(i, value) for i, value in enumerate(probe.inputs) if value is not None and not value.is_constant()]
    return {f"x{i}": value.shape for i, value in computed}


def compile_only(probe: Probe, folder: Path) -> Made:
    compile_probe(probe, folder)
    return (), ()


def try_onnxruntime(probe: Probe, folder: Path) -> Made:
    """A session on the CPU provider: its kernels are looked up when the model is loaded."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    onnxruntime.InferenceSession(str(write(probe, folder)), options, providers=["CPUExecutionProvider"])
    return (), ()


def try_litert(probe: Probe, folder: Path) -> Made:
    """The writer's operators, and those that XNNPACK leaves to the built-in kernels."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    from edgewright.formats.tflite.reader import read_tflite

    path = compile_probe(probe, folder)
    graph = read_tflite(path)
    made = []
    for operator in graph.operators:
        computed = [i for i in operator.inputs if i >= 0 and not graph.tensors[i].constant]
        tensor = graph.tensors[computed[0] if computed else operator.outputs[0]]
        made.append(f"{operator.op} {tensor.dtype} {len(tensor.shape)}")
    interpreter = Interpreter(str(path), num_threads=1, experimental_op_resolver_type=OpResolverType.AUTO)
    interpreter.allocate_tensors()
    return made, left_by_delegate(interpreter._get_ops_details(), made)


def left_by_delegate(plan: Sequence[Any], made: Sequence[str]) -> list[str]:
    """The operators that the built-in kernels run; the plan lists all operators, and the delegate's nodes behind them.

    The operators of a delegate's node are those whose outputs are only read there.
    """
    groups = [one for one in plan if one["op_name"] == "DELEGATE"]
    delegated, seen_outside = tensors_of(groups, "outputs"), tensors_of(groups, "inputs")
    read = tensors_of(plan[: len(made)], "inputs")
    left: list[str] = []
    for i in reversed(range(len(made))):
        outputs = tensors_of([plan[i]], "outputs")
        is_within = bool(outputs & delegated) or bool(groups and outputs & read and not outputs & seen_outside)
        if not is_within:
            left.append(made[i])
            seen_outside |= tensors_of([plan[i]], "inputs")
    return left[::-1]


def tensors_of(operators: Sequence[Any], side: str) -> set[int]:
    return {int(tensor) for one in operators for tensor in one[side]}


def try_ncnn(probe: Probe, folder: Path) -> Made:
    from edgewright.runtimes.ncnn.param import COPIES, read_param

    rows = read_param(compile_probe(probe, folder))
    return [row.op for row in rows if row.op not in COPIES], ()


def try_openvino(probe: Probe, folder: Path) -> Made:
    """OpenVINO's own operators after its reader; all must compile for the CPU."""
    from edgewright.runtimes.openvino.library import make_core

    path = compile_probe(probe, folder)
    core = make_core()
    model = core.read_model(path)
    core.compile_model(model, "CPU")
    names = [op.get_type_name() for op in model.get_ordered_ops()]
    return sorted(set(names) - {"Parameter", "Result", "Constant"}), ()


def try_executorch(probe: Probe, folder: Path) -> Made:
    """The kernels that the program calls outside of XNNPACK."""
    from edgewright.formats.torch.program import load_source
    from edgewright.runtimes.executorch.compiler import check_loads, silenced, write_program

    with silenced():
        loaded = load_source(str(write(probe, folder)), "onnx", shapes_of(probe), half=False, unroll=True)
        buffer, description = write_program(loaded)
    path = folder / "probe.pte"
    path.write_bytes(buffer)
    check_loads(path)
    return (), sorted(description.kernels())


TRIALS: dict[str, Trial] = {
    "onnxruntime": try_onnxruntime,
    "litert": try_litert,
    "ncnn": try_ncnn,
    "openvino": try_openvino,
    "executorch": try_executorch,
}

if __name__ == "__main__":
    main()
