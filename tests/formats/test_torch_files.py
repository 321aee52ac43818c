"""Files of torch that are damaged or of another kind, recognized without torch."""

from pathlib import Path
from zipfile import ZipFile

import pytest

from edgewright.errors import ModelUnreadable
from edgewright.flows.compile.sources import hash_source, is_torch
from edgewright.formats.files import read_model
from edgewright.formats.torch_files import LEGACY, find_torch_kind
from edgewright.schema.plan import CompilePlan


def write_zip(path: Path, **members: bytes) -> Path:
    with ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name.replace("__", "/").replace("_pkl", ".pkl"), data)
    return path


def test_other_files_are_none_of_torch(tmp_path: Path) -> None:
    whole = write_zip(tmp_path / "s", m__constants_pkl=b"", m__code__a=b"").read_bytes()
    (tmp_path / "cut").write_bytes(whole[:-30])
    (tmp_path / "huge").write_bytes(whole[:-10] + b"\xff\xff\xff\xff" + whole[-6:])
    (tmp_path / "text").write_text("PK\x03\x04", encoding="utf-8")
    write_zip(tmp_path / "zip", m__picture=b"")
    write_zip(tmp_path / "pickle", m__data_pkl=b"\xff\xff")
    for name in ("cut", "huge", "text", "zip", "absent", "."):
        assert find_torch_kind(tmp_path / name) == ""
    assert find_torch_kind(tmp_path / "s") == "script"
    assert find_torch_kind(tmp_path / "pickle") == ""


@pytest.mark.parametrize("name", ["w.bin", "w.pt"])
def test_weights_alone_are_no_model(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(LEGACY + b"\x80\x02")
    path = tmp_path / name
    assert is_torch(str(path))
    with pytest.raises(ModelUnreadable, match="has weights, but no model") as caught:
        hash_source(CompilePlan(source=str(path), cells=()))
    assert f"FILE.py:FACTORY --weights {name}" in caught.value.try_this
    with pytest.raises(ModelUnreadable, match="has weights, but no model"):
        read_model(path)


def test_torchscript_and_python_have_to_be_compiled_first(tmp_path: Path) -> None:
    write_zip(tmp_path / "m.jit", m__constants_pkl=b"", m__code__a=b"")
    (tmp_path / "net.py").write_text("import torch", encoding="utf-8")
    for name, command in (
        ("m.jit", "edgewright compile m.jit --shape"),
        ("net.py", "edgewright compile net.py:FACTORY --shape"),
        ("net.py:build", "edgewright compile net.py:build --shape"),
    ):
        with pytest.raises(ModelUnreadable) as caught:
            read_model(tmp_path / name)
        assert caught.value.try_this.startswith(command)
