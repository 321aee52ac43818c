"""The target `native`: a C++17 project with CMake for Linux boards and computers."""

from edgewright.packaging.contract import AppContract
from edgewright.packaging.golden import GoldenVectors
from edgewright.packaging.targets import TargetFiles


def check(contract: AppContract) -> None:
    """Raise an error for what the project cannot express."""


def generate(contract: AppContract, golden: GoldenVectors) -> TargetFiles:
    """Return the project's files."""
    return TargetFiles({"README.md": f"# {contract.name}\n".encode()})
