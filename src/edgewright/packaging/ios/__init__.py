"""The target `ios`: a Swift package that runs the model in Core ML, and the source of an example app.

The files of `project/` are the same in every project; the values of `Parameters.swift` follow from the contract.
"""

from pathlib import Path

from edgewright.errors import ConfigError
from edgewright.packaging.contract import AppContract
from edgewright.packaging.golden import GoldenVectors
from edgewright.packaging.ios.parameters import write_package, write_parameters
from edgewright.packaging.ios.readme import write_readme
from edgewright.packaging.targets import TargetFiles
from edgewright.tasks.spec.task import ImageInput, NextToken, TensorInput

_PROJECT = Path(__file__).with_name("project")


def check(contract: AppContract) -> None:
    """Raise ConfigError for inputs and outputs that the Swift library does not have."""
    if isinstance(contract.answer, NextToken):
        hint = "use a runtime of language models on the phone"
        raise ConfigError("the task's output cannot be read in Swift", 'its kind is "next-token"', hint)
    for one in contract.inputs:
        if one.preprocessing is not None and not isinstance(one.preprocessing, ImageInput | TensorInput):
            why, hint = (
                f"{one.tensor.source!r} is not an image or a tensor",
                'set kind = "tensor" and prepare it in the app',
            )
            raise ConfigError("an input of the task cannot be prepared in Swift", why, hint)
    for tensor in (*(one.tensor for one in contract.inputs), *contract.outputs):
        if tensor.dtype != "float32":
            why, hint = f"{tensor.name!r} is {tensor.dtype}", "compile a model with float32 inputs and outputs"
            raise ConfigError("the artifact cannot be run by the Swift library", why, hint)


def generate(contract: AppContract, golden: GoldenVectors) -> TargetFiles:
    """Return the project's files."""
    files: dict[str, bytes | Path] = {
        path.relative_to(_PROJECT).as_posix(): path for path in sorted(_PROJECT.rglob("*.swift"))
    }
    files["Package.swift"] = write_package(contract).encode()
    files["Sources/EdgewrightModel/Parameters.swift"] = write_parameters(contract).encode()
    files["README.md"] = write_readme(contract, golden).encode()
    return TargetFiles(files)
