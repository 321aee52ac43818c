"""Mutated files beside a model: `edgewright.toml`, a task, a recipe, and arrays in an `.npz`."""

import io
import random
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.fuzz.cases import Case
from tests.fuzz.damage_bytes import damage

Chance = random.Random

CONFIG = """[benchmark]
threads = 1
seconds = 0.1
runtime = ["onnxruntime"]
shape = ["image=1,1,8,8"]

[compile]
samples = 2
precision = ["fp32"]

[ui]
port = 8080
host = "127.0.0.1"
"""
RECIPE = """schema = "edgewright.recipe/1"
precision = "w8a8"
rounding = "nearest"
search = false

[[rules]]
nodes = "*"
ops = ["Conv"]
depth = [0, 1]
precision = "fp32"
"""
VALUES = (
    "-1", "0", "1", "true", "nan", "inf", "-0.0", "1e400", "1e308", "9223372036854775808", "99999999999999999999999",
    '""', '"\\u0000"', '"../../victim"', '"/etc/passwd"', '"/dev/zero"', '"fifo"', '"."', '"evil.py:make"',
    '"os:system"', '"(a+)+$"', "[]", "[[]]", "[1, [2]]", "{}", "1979-05-27", "'x=99999999999999999999'",
    '"0-99999999999"',
    "[" * 4000 + "]" * 4000, "{a=" * 2000 + "1" + "}" * 2000, '"' + "A" * 100_000 + '"',
)  # fmt: skip
DTYPES = (
    "'<f4'", "'|O'", "'<U999999999'", "'|S0'", "'<M8[s]'", "'V99999999999'", "'<c16'", "[('a','<f4')]", "'x'", "5",
    "'<f4', 'more': 1", "('<f4',(9999999999,))", "__import__('os').getcwd()",
)  # fmt: skip
SHAPES = (
    "(0,)", "()", "(-1, 64)", "(2**40,)", "(9223372036854775807,)", "(99999999999999999999999,)", "(16L,)", "'x'", "1",
    "(True, 64)", "(" + "1," * 70 + ")", "(" * 3000, "(16, 8, 8, 0)", "None",
)  # fmt: skip
TABLES = ("[store]\nhome = 'evil'", "[[benchmark]]", "[a.b.c]", "benchmark = 5", "[augment]\nshift = 1e999")
EVIL = b"import pathlib\npathlib.Path('code ran').touch()\ndef make():\n    return []\n"


def fill(case: Case, chance: Chance, seeds: Path) -> None:
    """Give the case one mutated file and the commands that read it."""
    what = chance.choice(("config", "task", "recipe", "arrays", "arrays"))
    case.files = {path.name: path.read_bytes() for path in (seeds / "settings").iterdir()}
    case.files["evil.py"] = EVIL
    evaluate = ["evaluate", "digits.onnx", "--task", "task.toml", "--samples", "5", "--data"]
    match what:
        case "config":
            how, case.files["edgewright.toml"] = damage_settings(CONFIG, chance)
            case.commands = [["benchmark", "digits.onnx", "--dry-run"], ["compile", "digits.onnx", "--dry-run"]]
        case "task":
            how, case.files["task.toml"] = damage_settings(case.files["task.toml"].decode(), chance)
            case.commands = [["task", "show", "task.toml"], [*evaluate, "small.npz"]]
        case "recipe":
            how, case.files["recipe.toml"] = damage_settings(RECIPE, chance)
            case.commands = [["quantize", "digits.onnx", "--task", "task.toml", "--data", "small.npz", "--recipe",
                              "recipe.toml", "--runtime", "onnxruntime", "--no-measure", "-o", "{out}"]]  # fmt: skip
        case _:
            name = chance.choice(("small.npz", "inputs.npz"))
            how, case.files["bad.npz"] = damage_arrays(case.files[name], name, chance)
            invoke = ["invoke", "digits.onnx", "--inputs", "bad.npz", "-o", "{out}/o.npz"]
            case.commands = [[*evaluate, "bad.npz"] if name == "small.npz" else invoke, [":arrays", "bad.npz"]]
    case.label = f"{what}: {how}"


def damage_settings(text: str, chance: Chance) -> tuple[str, bytes]:
    """Change a value, a key or the bytes of a TOML file."""
    lines = text.splitlines()
    keys = [i for i, line in enumerate(lines) if re.match(r"\w+ = ", line)]
    match chance.choice(("value", "value", "value", "value", "gone", "twice", "key", "table", "bytes", "empty")):
        case "value":
            at, value = chance.choice(keys), chance.choice(VALUES)
            key = lines[at].split(" = ")[0]
            lines[at] = f"{key} = {value}"
            return f"{key} = {value[:30]}", "\n".join(lines).encode()
        case "gone":
            del lines[chance.choice(keys)]
            return "a key is gone", "\n".join(lines).encode()
        case "twice":
            lines += lines[chance.choice(keys) :]
            return "a part stands twice", "\n".join(lines).encode()
        case "key":
            name = chance.choice(("data", "output", "labels", "metric", "work_folder", "extra", "a." * 3000 + "b"))
            lines.insert(chance.choice(keys), f"{name} = {chance.choice(VALUES)}")
            return f"{name[:30]} is added", "\n".join(lines).encode()
        case "table":
            lines.append(chance.choice(TABLES))
            return lines[-1][:20], "\n".join(lines).encode()
        case "empty":
            return "empty", b""
    return damage(text.encode(), chance)


def damage_arrays(data: bytes, name: str, chance: Chance) -> tuple[str, bytes]:
    """Change bytes of an .npz, or write one whose headers lie."""
    array, shape = ("images.npy", (16, 8, 8)) if name == "small.npz" else ("image.npy", (1, 1, 8, 8))
    match chance.choice(("bytes", "bytes", "bytes", "header", "header", "member", "values", "dtype")):
        case "bytes":
            return damage(data, chance)
        case "header":
            sizes, dtype = chance.choice((str(shape), *SHAPES)), chance.choice(DTYPES)
            header = f"{{'descr': {dtype}, 'fortran_order': False, 'shape': {sizes}, }}\n".encode()
            body = bytes(chance.choice((0, 100, 4096)))
            whole = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + body
            return f"header {dtype} {sizes[:20]}", pack({array: whole})
        case "member":
            names = ("../../victim/image.npy", "/etc/labels.npy", "image", array, "x.txt", "")
            return "members", pack({one: chance.randbytes(20) for one in chance.sample(names, 2)})
        case "values":
            value = chance.choice((np.nan, np.inf, -1e38, 1e38))
            return f"values {value}", pack({array: as_member(np.full(shape, value, np.float32))})
    many = np.zeros(shape, chance.choice(("int8", "float64", "bool", "U3", "complex64", "float16", "object")))
    return f"dtype {many.dtype}", pack({array: as_member(many)})


def as_member(array: NDArray[Any]) -> bytes:
    """Return the bytes of an .npy file."""
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def pack(members: dict[str, bytes]) -> bytes:
    """Return the bytes of an .npz file with these members and labels."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in {"labels.npy": as_member(np.zeros(16, np.uint8)), **members}.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return out.getvalue()
