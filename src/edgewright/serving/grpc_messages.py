"""The messages of the Open Inference Protocol's gRPC service, built from a table instead of generated code.

Generated code is bound to a range of protobuf versions; this is not. Numbers and names are those of the protocol's
specification (package `inference`, service `GRPCInferenceService`).
"""

from functools import cache
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory  # type: ignore[import-untyped]  # no types in the package

PACKAGE = "inference"
SERVICE = f"{PACKAGE}.GRPCInferenceService"
_MODEL = "name:string=1 version:string=2"
# A field is NAME:TYPE=NUMBER; `*` in front of the type is repeated, `?` belongs to the one choice of its message, and
# `%` is a map from text.
_TABLE = {
    "ServerLiveRequest": "",
    "ServerLiveResponse": "live:bool=1",
    "ServerReadyRequest": "",
    "ServerReadyResponse": "ready:bool=1",
    "ModelReadyRequest": _MODEL,
    "ModelReadyResponse": "ready:bool=1",
    "ServerMetadataRequest": "",
    "ServerMetadataResponse": "name:string=1 version:string=2 extensions:*string=3",
    "ModelMetadataRequest": _MODEL,
    "ModelMetadataResponse.TensorMetadata": "name:string=1 datatype:string=2 shape:*int64=3",
    "ModelMetadataResponse": (
        "name:string=1 versions:*string=2 platform:string=3 "
        "inputs:*ModelMetadataResponse.TensorMetadata=4 outputs:*ModelMetadataResponse.TensorMetadata=5"
    ),
    "InferParameter": (
        "bool_param:?bool=1 int64_param:?int64=2 string_param:?string=3 double_param:?double=4 uint64_param:?uint64=5"
    ),
    "InferTensorContents": (
        "bool_contents:*bool=1 int_contents:*int32=2 int64_contents:*int64=3 uint_contents:*uint32=4 "
        "uint64_contents:*uint64=5 fp32_contents:*float=6 fp64_contents:*double=7 bytes_contents:*bytes=8"
    ),
    "ModelInferRequest.InferInputTensor": (
        "name:string=1 datatype:string=2 shape:*int64=3 parameters:%InferParameter=4 contents:InferTensorContents=5"
    ),
    "ModelInferRequest.InferRequestedOutputTensor": "name:string=1 parameters:%InferParameter=2",
    "ModelInferRequest": (
        "model_name:string=1 model_version:string=2 id:string=3 parameters:%InferParameter=4 "
        "inputs:*ModelInferRequest.InferInputTensor=5 outputs:*ModelInferRequest.InferRequestedOutputTensor=6 "
        "raw_input_contents:*bytes=7"
    ),
    "ModelInferResponse.InferOutputTensor": (
        "name:string=1 datatype:string=2 shape:*int64=3 parameters:%InferParameter=4 contents:InferTensorContents=5"
    ),
    "ModelInferResponse": (
        "model_name:string=1 model_version:string=2 id:string=3 parameters:%InferParameter=4 "
        "outputs:*ModelInferResponse.InferOutputTensor=5 raw_output_contents:*bytes=6"
    ),
}
METHODS = ("ServerLive", "ServerReady", "ModelReady", "ServerMetadata", "ModelMetadata", "ModelInfer")


@cache
def load_messages() -> dict[str, Any]:
    """Return the classes of all messages by name."""
    file = descriptor_pb2.FileDescriptorProto(name="edgewright/inference.proto", package=PACKAGE, syntax="proto3")
    messages = {name: file.message_type.add(name=name) for name in _TABLE if "." not in name}
    for name, fields in _TABLE.items():
        outer, _, inner = name.partition(".")
        message = messages[outer].nested_type.add(name=inner) if inner else messages[name]
        for one in fields.split():
            _add_field(message, f".{PACKAGE}.{name}", one)
    pool = descriptor_pool.DescriptorPool()  # of its own: a client's generated code may be in the same process
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}")) for name in messages}


def _add_field(message: Any, path: str, text: str) -> None:
    name, _, rest = text.partition(":")
    kind, _, number = rest.partition("=")
    field = message.field.add(name=name, number=int(number), label=1)
    mark = kind[0] if kind[0] in "*?%" else ""
    kind = kind.removeprefix(mark)
    if mark == "%":
        entry = f"{name.title()}Entry"
        nested = message.nested_type.add(name=entry)
        nested.options.map_entry = True
        for part in ("key:string=1", f"value:{kind}=2"):
            _add_field(nested, path, part)
        field.label, field.type, field.type_name = 3, 11, f"{path}.{entry}"
        return
    if mark == "*":
        field.label = 3
    if mark == "?":
        if not message.oneof_decl:
            message.oneof_decl.add(name="parameter_choice")
        field.oneof_index = 0
    scalar = getattr(descriptor_pb2.FieldDescriptorProto, f"TYPE_{kind.upper()}", None)
    if scalar is None:
        field.type, field.type_name = 11, f".{PACKAGE}.{kind}"
    else:
        field.type = scalar
