"""OpenVINO's intermediate representation from ONNX, by OpenVINO's own reader; runs in the worker.

`ov.convert_model` and the tool `ovc` would do the same, and send telemetry; see `library`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgewright.formats.artifacts import make_same_port
from edgewright.formats.onnx.reader import OnnxFile, parse_model
from edgewright.runtimes.contract import NotConvertible, Rejected
from edgewright.runtimes.openvino.library import get_error_text, import_library, make_core, version
from edgewright.runtimes.openvino.normalize import fix_pools
from edgewright.runtimes.openvino.session import OpenvinoSession, read_model, read_signature
from edgewright.runtimes.wire import Compiled, CompileRequest, SessionRequest
from edgewright.schema.artifact import IoMap
from edgewright.schema.model import Signature
from edgewright.schema.names import find_free_name

HALF_NOTE = "weights are stored in half precision; the CPU computes in the precision of inference-precision (f32)"
FLOATS = ("fp32", "fp16")
UNKNOWN = "No conversion rule found for operations: "


def compile_model(request: CompileRequest) -> Compiled:
    """See `contract.Runtime.compile`. Only a QDQ model is quantized, and runs in INT8."""
    _check_precision(request)
    library = import_library()
    core = make_core()
    model = _read_source(core, request)
    fix_pools(model)
    _name_decomposed_nodes(model)
    path = Path(request.folder) / f"{request.stem}.xml"
    try:
        library.save_model(model, str(path), compress_to_fp16=request.precision == "fp16")
        io_map = _check_loads(core, path, OnnxFile(Path(request.source)).signature())
    except NotConvertible:
        _remove_model(path)
        raise
    except Exception as error:
        _remove_model(path)
        raise NotConvertible(f"OpenVINO cannot write the model: {get_error_text(error)}") from error
    return Compiled(
        main=path.name,
        io_map=io_map,
        tools={"openvino": version()},
        notes=(HALF_NOTE,) if request.precision == "fp16" else (),
    )


def _check_precision(request: CompileRequest) -> None:
    """Raise NotConvertible for a precision that requires a quantized source."""
    if request.precision in FLOATS:
        return
    own = OnnxFile(Path(request.source)).precision()
    if own != request.precision:
        why = f"the model is {own}, and compiling for OpenVINO does not quantize"
        raise NotConvertible(why, f"give a QDQ model that is {request.precision}")


def _remove_model(path: Path) -> None:
    for suffix in (".xml", ".bin"):
        path.with_suffix(suffix).unlink(missing_ok=True)


def _read_source(core: Any, request: CompileRequest) -> Any:
    """Return OpenVINO's graph of the source. Raises NotConvertible with the unsupported operators and their nodes."""
    try:
        return core.read_model(request.source)
    except Exception as error:
        unknown = _find_unknown(str(error))
        if not unknown:
            raise NotConvertible(f"OpenVINO cannot read the model: {get_error_text(error)}") from error
        why = "\n".join(_explain(op, request.source) for op in unknown)
        raise NotConvertible(why, "replace it with operators that OpenVINO supports, or remove it") from error


def _find_unknown(text: str) -> list[str]:
    """Return the unsupported operators in OpenVINO's report, where their form is `domain.Op-18`."""
    line = next((line for line in text.splitlines() if UNKNOWN in line), "")
    names = line.partition(UNKNOWN)[2].split(",")
    return [name.strip().rpartition("-")[0] or name.strip() for name in names if name.strip()]


def _explain(op: str, source: str) -> str:
    nodes = [
        node.name
        for node in parse_model(Path(source), weights=False).graph.node
        if node.op_type == op.rpartition(".")[2]
    ]
    shown = ", ".join(f"'{name}'" for name in nodes[:3]) + (f" and {len(nodes) - 3} more" if len(nodes) > 3 else "")
    return f"{op}: OpenVINO has no conversion rule for it" + (f" (node {shown})" if nodes else "")


def _name_decomposed_nodes(model: Any) -> None:
    """Name the parts of a decomposed node like `NODE/Multiply`, after the next named operator.

    OpenVINO numbers them (`Multiply_41`), and also those that it creates when it loads the file: two
    operators could then have one name.
    """
    ops = model.get_ordered_ops()
    taken = {op.get_friendly_name() for op in ops}
    owners: dict[str, str] = {}
    for op in reversed(ops):  # readers of an operator come before it
        own, name = op.get_name(), op.get_friendly_name()
        owners[own] = name if name != own else _find_owner(op, owners)
        if name == own and op.get_type_name() != "Constant":
            op.set_friendly_name(find_free_name(f"{owners[own]}/{op.get_type_name()}", taken))
            taken.add(op.get_friendly_name())


def _find_owner(op: Any, owners: Mapping[str, str]) -> str:
    """Return the alphabetically first one, since OpenVINO reports the readers in no order."""
    readers = {to.get_node().get_name() for port in op.outputs() for to in port.get_target_inputs()}
    return min((owners[reader] for reader in readers), default="")


def _check_loads(core: Any, path: Path, source: Signature) -> IoMap:
    """Load the file once, like a session. Raises NotConvertible if OpenVINO's CPU plug-in rejects it."""
    request = SessionRequest(model=str(path))
    try:
        model = read_model(core, request)
        session = OpenvinoSession(core, model, request)
        signature = read_signature(session.compiled)
        session.close()
    except Rejected as error:
        raise NotConvertible(f"OpenVINO rejects the file that it wrote: {error}") from error
    # By their order: a tensor before a removed no-op has the names of both.
    return IoMap(
        inputs=tuple(map(make_same_port, signature.inputs, (spec.name for spec in source.inputs))),
        outputs=tuple(map(make_same_port, signature.outputs, (spec.name for spec in source.outputs))),
    )
