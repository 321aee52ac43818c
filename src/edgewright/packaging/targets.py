"""The targets of `edgewright package` as a table; a target's package is imported only when it is used.

This module imports nothing large: the command line reads the table at its start.

To add a target: a package `packaging/NAME` with the functions of `TargetModule`, a row in `TARGETS`, a section in
docs/packaging.md and docs/commands.md, and tests in `tests/packaging/NAME`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple, Protocol, cast

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from edgewright.packaging.contract import AppContract
    from edgewright.packaging.golden import GoldenVectors


class TargetFiles(NamedTuple):
    """The files of a target, besides those that every project has.

    Attributes:
        files: content by name, relative to the project's folder with `/`. A path is a file that is copied.
        local: files that fit this machine only. They are written like the others, but the project's `.gitignore` must
            name them: they may have paths of this machine.
        notes: for the user, in full sentences without a period.
    """

    files: Mapping[str, bytes | Path]
    local: Mapping[str, bytes] = {}
    notes: tuple[str, ...] = ()


class TargetModule(Protocol):
    """The package of one target."""

    def check(self, contract: AppContract) -> None:
        """Raise the error for what the target cannot express: ConfigError names the key of the task and the
        alternative, ModelNotConvertible the artifact and the command that makes another one."""

    def generate(self, contract: AppContract, golden: GoldenVectors) -> TargetFiles:
        """Return the project's files. Nothing is written, and the same arguments give the same files."""


class TargetInfo(NamedTuple):
    """A target.

    Attributes:
        title: what is generated, to show.
        formats: of the artifacts that it takes; others raise ModelNotConvertible, which names `compile --runtime` of
            the first of `runtimes`.
        runtimes: that run in the project.
    """

    title: str
    formats: tuple[str, ...]
    runtimes: tuple[str, ...]


TARGETS = {
    "native": TargetInfo("a C++17 project with CMake", ("onnx", "tflite", "ncnn"), ("onnxruntime", "litert", "ncnn")),
    "web": TargetInfo("a web page", ("onnx", "tflite"), ("onnxruntime", "litert")),
    "ios": TargetInfo("a Swift package", ("coreml",), ("coreml",)),
}


def load_target(name: str) -> TargetModule:
    """Import the package of a target."""
    return cast("TargetModule", import_module(f"edgewright.packaging.{name}"))
