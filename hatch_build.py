"""Compile the kernels into the wheel, for x86-64 and 64-bit Arm Linux, if the package ziglang is installed.

A release is built with it: `pip install ziglang hatchling && python -m hatchling build -t wheel`. Any other wheel has
the sources only, which are compiled on the user's machine.
"""

import subprocess
import sys
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

TARGETS = {"linux-x86_64.so": "x86_64-linux-gnu.2.17", "linux-aarch64.so": "aarch64-linux-gnu.2.17"}


class KernelBuildHook(BuildHookInterface[Any]):
    """Adds `kernels/native/prebuilt/SYSTEM-PROCESSOR.so`, and removes it from the sources after the build."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        build = _load_build(Path(self.root))
        if version == "editable" or find_spec("ziglang") is None:
            return
        build.PREBUILT.mkdir(exist_ok=True)
        for name, target in TARGETS.items():
            self._compile(build, build.PREBUILT / name, target)
            build_data["artifacts"].append(f"/{(build.PREBUILT / name).relative_to(self.root).as_posix()}")

    def _compile(self, build: ModuleType, output: Path, target: str) -> None:
        sources = [str(build.NATIVE / source) for source in build.SOURCES]
        command = [sys.executable, "-m", "ziglang", "cc", "-target", target, *build.FLAGS, "-s", *sources]
        subprocess.run([*command, "-o", str(output), "-lm"], check=True)  # noqa: S603 - our own sources

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        folder = _load_build(Path(self.root)).PREBUILT
        for name in TARGETS:
            (folder / name).unlink(missing_ok=True)
        if folder.is_dir():
            folder.rmdir()


def _load_build(root: Path) -> ModuleType:
    """Return the sources and flags of `edgewright.kernels.build`, whose packages are not installed here."""
    path = root / "src" / "edgewright" / "kernels" / "sources.py"
    spec = spec_from_file_location("kernel_sources", path)
    assert spec is not None and spec.loader is not None  # noqa: S101 - the file is there
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
