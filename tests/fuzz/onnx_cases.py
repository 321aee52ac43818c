"""Mutated ONNX files: changes of the message's fields that keep it readable, and changes of its bytes."""

import random
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.fuzz.cases import Case
from tests.fuzz.damage_bytes import damage

Model = Any
Chance = random.Random

INTEGERS = (0, -1, 1, -2, 7, 65536, 10**6, 2**20, 2**31 - 1, 2**31, 2**32, 2**40, 10**12, 2**63 - 1, -(2**63))
TEXTS = (
    "", " ", "\x00", "a\nb", "\x1b[31mred\x1b[0m", "../../victim/keep.bin", "<script>alert(1)</script>",
    "=cmd|' /C x'!A0", "a/b/c", "x" * 255, "é" * 20_000, "A" * 300_000, "\u202eevil", "{}", "{0.__class__}", "%s%n",
    "'; DROP TABLE run;--", "#0", "a#1",
)  # fmt: skip
# Names of data types that exist, and some that do not.
DTYPES = (0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 14, 15, 16, 17, 20, 21, 22, 23, 50, 99, -1, -7, 2**31 - 1)
OPERATORS = (
    "Abs", "Add", "And", "ArgMax", "AveragePool", "BatchNormalization", "BitShift", "Cast", "CastLike", "Celu", "Clip",
    "Compress", "Concat", "ConcatFromSequence", "Constant", "ConstantOfShape", "Conv", "ConvInteger", "ConvTranspose",
    "Cos", "CumSum", "DepthToSpace", "DequantizeLinear", "DFT", "Div", "Dropout", "DynamicQuantizeLinear", "Einsum",
    "Elu", "Equal", "Erf", "Exp", "Expand", "EyeLike", "Flatten", "GRU", "Gather", "GatherElements", "GatherND", "Gelu",
    "Gemm", "GlobalAveragePool", "GridSample", "GroupNormalization", "HardSigmoid", "Hardmax", "Identity", "If",
    "InstanceNormalization", "IsInf", "LRN", "LSTM", "LayerNormalization", "LeakyRelu", "Log", "LogSoftmax", "Loop",
    "LpNormalization", "LpPool", "MatMul", "MatMulInteger", "Max", "MaxPool", "MaxRoiPool", "MaxUnpool", "Mean",
    "MelWeightMatrix", "Min", "Mod", "Mul", "Multinomial", "Neg", "NonMaxSuppression", "NonZero", "Not", "OneHot",
    "Optional", "OptionalGetElement", "Or", "PRelu", "Pad", "Pow", "QLinearConv", "QLinearMatMul", "QuantizeLinear",
    "RNN", "RandomNormal", "RandomUniformLike", "Range", "Reciprocal", "ReduceMean", "ReduceSum", "RegexFullMatch",
    "Relu", "Reshape", "Resize", "ReverseSequence", "RoiAlign", "Round", "STFT", "Scan", "ScatterElements", "ScatterND",
    "Selu", "SequenceAt", "SequenceConstruct", "SequenceInsert", "Shape", "Shrink", "Sigmoid", "Sign", "Size", "Slice",
    "Softmax", "SpaceToDepth", "Split", "SplitToSequence", "Sqrt", "Squeeze", "StringNormalizer", "Sub", "Sum",
    "TfIdfVectorizer", "ThresholdedRelu", "Tile", "TopK", "Transpose", "Trilu", "Unique", "Unsqueeze", "Upsample",
    "Where", "Xor",
)  # fmt: skip
ATTRIBUTES = ("axis", "axes", "perm", "pads", "group", "kernel_shape", "strides", "dilations", "auto_pad", "to",
              "value", "keepdims", "hidden_size", "direction", "mode", "", "A" * 1000)  # fmt: skip
FOREIGN = ("com.microsoft", "ai.onnx.ml", "ai.onnx", "evil", "\x00", "A" * 10_000)
LOCATIONS = ("", ".", "w.bin", "w.bin/", "short.bin", "link.bin", "linked/keep.bin", "fifo", "/dev/zero", "/etc/passwd",
             "../w.bin", "sub/../../x", "a\x00b", "x" * 5000, "m.onnx", "\\..\\x")  # fmt: skip
OFFSETS = ("0", "8", "-1", "abc", "1e9", "0x10", " 4", "9" * 400, str(2**63), str(2**31), "60")
LENGTHS = ("0", "16", "-5", "x", "9" * 30, str(2**40), "64", "1.0")


def fill(case: Case, chance: Chance, seeds: Path) -> None:
    """Give the case a mutated model and the commands that read it."""
    source = chance.choice(sorted((seeds / "onnx").glob("*.onnx")))
    names, data = mutate(source.read_bytes(), chance)
    case.label = f"{source.stem}: {', '.join(names)}"
    case.files = {"m.onnx": data, "w.bin": bytes(64), "short.bin": bytes(3)}
    case.commands = choose_commands(case.number)


def choose_commands(number: int) -> list[list[str]]:
    """Choose a few of the commands that take a model; the numbers share the costly ones out."""
    analyze = ["analyze", "m.onnx", "--json"] if number % 4 else ["analyze", "m.onnx", "--layers"]
    match number % 16:
        case 1 | 5 | 9 | 13:
            return [[":convert", "m.onnx"]]
        case 3 | 11:
            return [[":read", "m.onnx"], analyze]
        case 6:
            return [["compile", "m.onnx", "--runtime", "onnxruntime,litert", "--samples", "1", "-o", "{out}"]]
        case 14:
            return [["benchmark", "m.onnx", "--processes", "1", "--runs", "10", "--warmup-seconds", "0"]]
        case 15:
            return [[":read", "m.onnx"], ["benchmark", "m.onnx", "--dry-run"], ["compile", "m.onnx", "--dry-run"]]
    return [analyze]


def mutate(data: bytes, chance: Chance) -> tuple[list[str], bytes]:
    """Return the names of the mutations, and the mutated file."""
    if chance.random() > 0.65:
        name, damaged = damage(data, chance)
        return [name], damaged
    model = onnx.ModelProto.FromString(data)
    names = []
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        change = chance.choice(CHANGES)
        names.append(change.__name__)
        try:
            change(model, chance)
        except (ValueError, TypeError, IndexError):  # protobuf takes no such value here
            names[-1] += " refused"
    out = model.SerializeToString()
    if chance.random() < 0.1:
        name, out = damage(out, chance)
        names.append(name)
    return names, out


def signature(model: Model) -> list[Any]:
    return [*model.graph.input, *model.graph.output, *model.graph.value_info]


def change_sizes(model: Model, chance: Chance) -> None:
    for value in chance.choices(signature(model), k=chance.randint(1, 3)):
        dims = value.type.tensor_type.shape.dim
        match chance.choice(("size", "size", "size", "name", "more", "none", "unknown")):
            case "size" if dims:
                chance.choice(dims).dim_value = chance.choice(INTEGERS)
            case "name" if dims:
                chance.choice(dims).dim_param = chance.choice(TEXTS)
            case "more":
                for _ in range(chance.choice((1, 64, 65, 1000))):
                    dims.add().dim_value = chance.choice(INTEGERS)
            case "none":
                del dims[:]
            case _:
                value.type.tensor_type.ClearField("shape")


def change_types(model: Model, chance: Chance) -> None:
    value = chance.choice(signature(model))
    match chance.choice(("dtype", "dtype", "sequence", "map", "optional", "none")):
        case "dtype":
            value.type.tensor_type.elem_type = chance.choice(DTYPES)
        case "sequence":
            value.type.sequence_type.elem_type.tensor_type.elem_type = 1
        case "map":
            value.type.map_type.key_type = 7
        case "optional":
            inner = value.type
            for _ in range(chance.choice((1, 40, 90))):
                inner = inner.optional_type.elem_type
            inner.tensor_type.elem_type = 1
        case _:
            value.type.Clear()


def change_weights(model: Model, chance: Chance) -> None:
    for tensor in chance.choices(model.graph.initializer, k=chance.randint(1, 3)):
        match chance.choice(("size", "size", "more", "none", "dtype", "dtype", "cut", "name", "both")):
            case "size" if tensor.dims:
                tensor.dims[chance.randrange(len(tensor.dims))] = chance.choice(INTEGERS)
            case "more":
                tensor.dims.extend([chance.choice(INTEGERS)] * chance.choice((1, 70, 2000)))
            case "none":
                del tensor.dims[:]
            case "dtype":
                tensor.data_type = chance.choice(DTYPES)
            case "cut":
                tensor.raw_data = tensor.raw_data[: chance.randrange(len(tensor.raw_data) + 1)]
            case "both":
                tensor.float_data.extend([1.0] * chance.choice((1, 5)))
            case _:
                tensor.name = chance.choice(TEXTS)


def change_values(model: Model, chance: Chance) -> None:
    """Change integers that say sizes, axes and bounds."""
    held = [tensor for tensor in model.graph.initializer if tensor.data_type == TensorProto.INT64]
    for tensor in chance.choices(held, k=chance.randint(1, 3)):
        values = numpy_helper.to_array(tensor).copy()
        values.reshape(-1)[chance.randrange(values.size)] = chance.choice(INTEGERS)
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


def change_wires(model: Model, chance: Chance) -> None:
    nodes = model.graph.node
    names = [name for node in nodes for name in (*node.input, *node.output)] + ["", "nowhere"]
    for node in chance.choices(nodes, k=chance.randint(1, 4)):
        match chance.choice(("input", "input", "output", "more", "outputs", "no inputs", "no outputs")):
            case "input" if node.input:
                node.input[chance.randrange(len(node.input))] = chance.choice(names)
            case "output" if node.output:
                node.output[chance.randrange(len(node.output))] = chance.choice(names)
            case "more":
                node.input.extend([chance.choice(names)] * chance.choice((1, 50, 3000)))
            case "outputs":
                node.output.extend([chance.choice(names)] * chance.choice((1, 50)))
            case "no inputs":
                del node.input[:]
            case _:
                del node.output[:]


def change_attributes(model: Model, chance: Chance) -> None:
    nodes = [node for node in model.graph.node if node.attribute] or list(model.graph.node)
    for node in chance.choices(nodes, k=chance.randint(1, 3)):
        attribute = chance.choice(node.attribute) if node.attribute and chance.random() < 0.8 else node.attribute.add()
        match chance.choice(("int", "int", "ints", "ints", "text", "type", "float", "tensor", "name", "gone")):
            case "int":
                attribute.type, attribute.i = 2, chance.choice(INTEGERS)
            case "ints":
                attribute.type = 7
                if attribute.ints and chance.random() < 0.6:
                    attribute.ints[chance.randrange(len(attribute.ints))] = chance.choice(INTEGERS)
                else:
                    attribute.ints.extend([chance.choice(INTEGERS)] * chance.choice((1, 3, 1000, 100_000)))
            case "text":
                attribute.type = 3
                attribute.s = chance.choice((b"", b"\xff\xfe", b"SAME_UPPER", b"VALID", b"linear", b"A" * 200_000))
            case "type":
                attribute.type = chance.choice((0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13))
            case "float":
                attribute.type = 1
                attribute.f = chance.choice((float("nan"), float("inf"), -1e38, 0.0))
            case "tensor":
                attribute.type = 4
                attribute.t.CopyFrom(make_tensor(chance, "t"))
            case "gone":
                node.attribute.remove(attribute)
            case _:
                attribute.name = chance.choice(ATTRIBUTES)


def change_operators(model: Model, chance: Chance) -> None:
    for node in chance.choices(model.graph.node, k=chance.randint(1, 3)):
        match chance.choice(("operator", "operator", "operator", "domain", "text", "name")):
            case "operator":
                node.op_type = chance.choice(OPERATORS)
            case "domain":
                node.domain = chance.choice(FOREIGN)
            case "text":
                node.op_type = chance.choice(TEXTS)
            case _:
                node.name = chance.choice(TEXTS)


def change_names(model: Model, chance: Chance) -> None:
    graph = model.graph
    for named in chance.choices([*graph.input, *graph.output, *graph.node, *graph.initializer, graph], k=3):
        named.name = chance.choice(TEXTS)


def change_versions(model: Model, chance: Chance) -> None:
    match chance.choice(("none", "version", "version", "more", "format")):
        case "none":
            del model.opset_import[:]
        case "version":
            for entry in model.opset_import:
                entry.version = chance.choice((0, -1, 1, 6, 7, 9, 11, 12, 13, 22, 23, 99, 2**63 - 1, -(2**63)))
        case "more":
            entries = [helper.make_opsetid(chance.choice(("", "evil", "ai.onnx")), chance.choice((1, 18, 99)))]
            model.opset_import.extend(entries * chance.choice((1, 1000)))
        case _:
            model.ir_version = chance.choice((0, -1, 3, 999, 2**63 - 1))


def add_nesting(model: Model, chance: Chance) -> None:
    """Add a control-flow operator whose branches hold others, some levels deep."""
    inner = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [], [output("y")])
    for level in range(chance.choice((1, 3, 10, 25, 30))):
        node = helper.make_node(chance.choice(("If", "If", "Loop", "Scan")), ["c"], [f"o{level}"])
        names = {"If": ("then_branch", "else_branch")}.get(node.op_type, ("body",))
        for name in names[: 2 if level < 8 else 1]:
            node.attribute.append(helper.make_attribute(name, inner))
        inner = helper.make_graph([node], "g", [], [output(f"o{level}")])
    outer = helper.make_node("If", ["c"], ["nested"], then_branch=inner, else_branch=inner)
    model.graph.node.append(outer)
    model.graph.initializer.append(helper.make_tensor("c", TensorProto.BOOL, [], [True]))


def add_functions(model: Model, chance: Chance) -> None:
    """Add functions that call each other: in a circle, or ten times each."""
    depth = chance.choice((1, 3, 4))
    imports = [helper.make_opsetid("", 18), helper.make_opsetid("own", 1)]
    for level in range(depth):
        is_last = level == depth - 1
        callee = chance.choice(("Relu", *OPERATORS)) if is_last else f"F{level + 1}"
        callee, domain = ("F0", "own") if is_last and chance.random() < 0.3 else (callee, "" if is_last else "own")
        steps = ["a", *(f"t{i}" for i in range(8)), "z"]
        nodes = [helper.make_node(callee, [one], [two], domain=domain) for one, two in pairwise(steps)]
        model.functions.append(helper.make_function("own", f"F{level}", ["a"], ["z"], nodes, imports))
    model.opset_import.append(helper.make_opsetid("own", 1))
    source = model.graph.input[0].name if model.graph.input else "x"
    model.graph.node.append(helper.make_node("F0", [source], ["of function"], domain="own"))
    if chance.random() < 0.5:
        model.graph.output.append(output("of function"))


def change_external(model: Model, chance: Chance) -> None:
    for tensor in chance.choices(model.graph.initializer, k=chance.randint(1, 2)):
        tensor.data_location = 1
        tensor.ClearField("raw_data")
        del tensor.external_data[:]
        for key, values in (("location", LOCATIONS), ("offset", OFFSETS), ("length", LENGTHS)):
            if chance.random() < 0.85:
                entry = tensor.external_data.add()
                entry.key, entry.value = key, chance.choice(values)
                if key == "location" and chance.random() < 0.4:
                    entry.value = "w.bin"


def add_constants(model: Model, chance: Chance) -> None:
    """Add a constant of hostile size and an operator that computes from it."""
    graph = model.graph
    node = helper.make_node("Constant", [], ["made"])
    attribute = node.attribute.add()
    attribute.name = chance.choice(("value", "value_float", "value_ints", "value_string", "sparse_value"))
    match chance.choice(("tensor", "ints", "sparse", "text")):
        case "tensor":
            attribute.type = 4
            attribute.t.CopyFrom(make_tensor(chance, "t"))
        case "ints":
            attribute.type = 7
            attribute.ints.extend([chance.choice(INTEGERS)] * chance.choice((0, 1, 4, 10_000)))
        case "sparse":
            attribute.type = 11
            attribute.sparse_tensor.values.CopyFrom(make_tensor(chance, "v"))
            attribute.sparse_tensor.dims.extend([chance.choice(INTEGERS)] * 2)
        case _:
            attribute.type, attribute.s = 3, b"\xff\xff"
    graph.node.append(node)
    first = graph.input[0].name if graph.input else "made"
    inputs = chance.choice((["made"], ["made"] * 3, [first, "made"], [first, "made", "made"]))
    reader = chance.choice(("ConstantOfShape", "Reshape", "Expand", "Tile", "Range", "OneHot", "Pad", "Resize", "Slice",
                            "TopK", "NonZero", "Unsqueeze", "Split", "Loop", "EyeLike", "Where"))  # fmt: skip
    graph.node.append(helper.make_node(reader, inputs, ["from made"]))
    if chance.random() < 0.5:
        graph.output.append(output("from made"))


def change_lists(model: Model, chance: Chance) -> None:
    graph = model.graph
    match chance.choice(("nodes", "inputs", "outputs", "no nodes", "no inputs", "no outputs", "no graph", "twice")):
        case "nodes":
            graph.node.extend(helper.make_node("Relu", ["x"], [f"q{i}"]) for i in range(chance.choice((300, 3000))))
        case "inputs":
            graph.input.extend(helper.make_tensor_value_info(f"in{i}", 1, [1]) for i in range(1000))
        case "outputs":
            graph.output.extend(output(f"out{i}") for i in range(1000))
        case "no nodes":
            del graph.node[:]
        case "no inputs":
            del graph.input[:]
        case "no outputs":
            del graph.output[:]
        case "no graph":
            model.ClearField("graph")
        case _:
            entries = chance.choice((graph.input, graph.output, graph.initializer, graph.node))
            entries.extend(list(entries)[:2])


def add_sparse(model: Model, chance: Chance) -> None:
    sparse = model.graph.sparse_initializer.add()
    sparse.values.CopyFrom(make_tensor(chance, chance.choice(("sparse", "x"))))
    sparse.indices.CopyFrom(make_tensor(chance, "places"))
    sparse.dims.extend([chance.choice(INTEGERS)] * chance.choice((0, 2)))


def add_texts(model: Model, chance: Chance) -> None:
    for _ in range(chance.choice((1, 50))):
        entry = model.metadata_props.add()
        entry.key, entry.value = chance.choice(TEXTS), chance.choice(TEXTS)
    model.producer_name, model.doc_string = chance.choice(TEXTS), chance.choice(TEXTS)


def make_tensor(chance: Chance, name: str) -> Any:
    tensor = TensorProto(name=name, data_type=chance.choice(DTYPES))
    tensor.dims.extend(chance.choice(INTEGERS) for _ in range(chance.choice((0, 1, 2, 4, 70))))
    if chance.random() < 0.5:
        tensor.raw_data = chance.randbytes(chance.choice((0, 1, 7, 64)))
    if chance.random() < 0.3:
        tensor.float_data.extend([1.0] * chance.choice((1, 5)))
    if chance.random() < 0.3:
        tensor.int64_data.extend([chance.choice(INTEGERS)] * chance.choice((1, 4)))
    return tensor


def output(name: str) -> Any:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, None)


CHANGES: tuple[Callable[[Model, Chance], None], ...] = (
    change_sizes, change_types, change_weights, change_values, change_wires, change_attributes, change_attributes,
    change_operators, change_names, change_versions, add_nesting, add_functions, change_external, add_constants,
    change_lists, add_sparse, add_texts,
)  # fmt: skip
