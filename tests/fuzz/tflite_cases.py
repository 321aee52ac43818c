"""Mutated TFLite files: words and offsets of the flatbuffer, fields of its tables, and any bytes."""

import random
import struct
from importlib import import_module
from pathlib import Path
from typing import Any

from tests.fuzz.cases import Case
from tests.fuzz.damage_bytes import damage

INTEGERS = (0, 1, -1, 4, 6, 8, 16, 255, 65535, 2**24, 10**6, 2**31 - 1, -(2**31))


def fill(case: Case, chance: random.Random, seeds: Path) -> None:
    """Give the case a mutated model and the commands that read it."""
    source = chance.choice(sorted((seeds / "tflite").glob("*.tflite")))
    data = source.read_bytes()
    change = chance.choice(
        (change_words, change_words, change_offsets, change_offsets, change_tables, change_tables, damage)
    )
    how, data = change(data, chance)
    case.label = f"{source.stem}: {how}"
    case.files = {"m.tflite": data}
    match case.number % 8:
        case 2:
            case.commands = [["benchmark", "m.tflite", "--processes", "1", "--runs", "10", "--warmup-seconds", "0"]]
        case 6:
            case.commands = [[":read", "m.tflite"], ["compile", "m.tflite", "--dry-run"]]
        case _:
            case.commands = [["analyze", "m.tflite", "--json" if case.number % 2 else "--layers"]]


def change_words(data: bytes, chance: random.Random) -> tuple[str, bytes]:
    body = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        size, form = chance.choice(((4, "<I"), (4, "<I"), (2, "<H")))
        at = chance.randrange(0, min(len(body) - 4, chance.choice((64, 3000, len(body)))), size)
        struct.pack_into(form, body, at, chance.choice(INTEGERS) & (256**size - 1))
    return "words", bytes(body)


def change_offsets(data: bytes, chance: random.Random) -> tuple[str, bytes]:
    """Point what looks like an offset to another table or vector."""
    body = bytearray(data)
    places = [at for at in range(0, min(len(body) - 4, 20_000), 4) if 0 < read_word(body, at) < len(body) - at]
    for _ in range(chance.randint(1, 5)):
        at, other = chance.choice(places), chance.choice(places)
        near = read_word(body, at) + chance.choice((-4, 4, 8, -8))
        to = other - at if other > at and chance.random() < 0.7 else chance.choice((4, 8, len(body) - at - 4, near))
        struct.pack_into("<I", body, at, to & 0xFFFFFFFF)
    return "offsets", bytes(body)


def read_word(body: bytearray, at: int) -> int:
    return int(struct.unpack_from("<I", body, at)[0])


def change_tables(data: bytes, chance: random.Random) -> tuple[str, bytes]:
    """Unpack the model, change one field, and pack it again: the flatbuffer stays whole, what it says does not."""
    schema = import_module("ai_edge_litert.schema_py_generated")
    model = schema.ModelT.InitFromPackedBuf(data, 0)
    graph = model.subgraphs[0]
    match how := chance.choice(
        ("shape", "shape", "dtype", "buffer", "wire", "wire", "code", "code", "ends", "options")
    ):
        case "shape":
            change_shape(graph, chance)
        case "dtype":
            chance.choice(graph.tensors).type = chance.randrange(20)
        case "buffer":
            chance.choice(graph.tensors).buffer = chance.choice((0, 1, 10**6))
        case "wire":
            change_wire(graph, chance)
        case "code":
            change_code(model, chance)
        case "ends":
            setattr(graph, chance.choice(("inputs", "outputs")), chance.choice(([], [0], [0, 0], [999], [-1])))
        case _:
            chance.choice(graph.operators).builtinOptions = None
    builder = import_module("flatbuffers").Builder(1024)
    try:
        builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    except (struct.error, TypeError, AttributeError):  # the schema's own types hold no such value
        return f"{how} refused", data
    return how, bytes(builder.Output())


def change_shape(graph: Any, chance: random.Random) -> None:
    tensor = chance.choice(graph.tensors)
    shape = [int(size) for size in tensor.shape] if tensor.shape is not None else []
    sizes = (0, 1, 2, 65536, 2**31 - 1, -1, -(2**31))
    match chance.choice(("size", "size", "more", "none", "many")):
        case "size" if shape:
            shape[chance.randrange(len(shape))] = chance.choice(sizes)
        case "more":
            shape += [chance.choice(sizes)] * chance.choice((1, 3))
        case "many":
            shape = [2**31 - 1] * chance.choice((10, 500))
        case _:
            shape = []
    tensor.shape = shape


def change_wire(graph: Any, chance: random.Random) -> None:
    operator = chance.choice(graph.operators)
    side = chance.choice(("inputs", "outputs"))
    tensors = [int(one) for one in getattr(operator, side)]
    match chance.choice(("other", "other", "less", "more")):
        case "other" if tensors:
            tensors[chance.randrange(len(tensors))] = chance.choice((-1, 0, 1, 2, 3, 999))
        case "less":
            tensors = tensors[:-1]
        case _:
            tensors += [chance.choice((-1, 0, 1))] * chance.choice((1, 100))
    setattr(operator, side, tensors)


def change_code(model: Any, chance: random.Random) -> None:
    """Make an operator of one kind one of another kind, with the inputs it has."""
    code = chance.choice(model.operatorCodes)
    code.builtinCode = chance.randrange(210)
    code.deprecatedBuiltinCode = min(code.builtinCode, 127)
