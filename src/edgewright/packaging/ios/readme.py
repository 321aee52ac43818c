"""The README of a Swift package."""

from edgewright.packaging.contract import AppContract
from edgewright.packaging.golden import GoldenVectors

_TEXT = """# {name}

A Swift package that runs {main} in Core ML, with the preprocessing and postprocessing of the task.

| target | contents |
|---|---|
| `EdgewrightCore` | preprocessing, bit-identical to `edgewright evaluate`; postprocessing; no Foundation |
| `EdgewrightModel` | `Engine` (Core ML), `Golden`, `Conditions` (heat, low-power mode), `Parameters` (generated) |
| `golden` | checks the golden vectors |

## On a Mac

    swift run -c release golden golden model/{main}

It prints one line of JSON, and ends with 0 if preprocessing is equal bit for bit and some compute units reproduce the
outputs of the source model. Without the second argument it checks preprocessing only, also on Linux.

## In an app

1. In Xcode create an iOS app (SwiftUI, iOS 16 or newer), and remove its generated `App` and `ContentView`.
2. Add this folder as a local package, and the library `EdgewrightModel` to the app.
3. Add `Example/ExampleApp.swift`, `model/{main}`, and `golden` as a folder reference to the app's target.

The app tests itself first: `Engine.choose` runs the golden vectors on all, CPU and Neural Engine, CPU and GPU, and CPU,
and uses the fastest that is equal. `readPlacement` returns what `MLComputePlan` says of each operation.

## What is verified

| part | by |
|---|---|
| golden vectors: {samples} ({source}), outputs of {runtime} | made when this project was generated |
| `EdgewrightCore` | Edgewright's own tests run it on Linux |
| `EdgewrightModel` | Edgewright's own tests check its types against stubs of Core ML; they do not run it |
| `Example` | nothing: build it in Xcode |

Only a Mac or an iPhone can verify the outputs, the compute units and their speed.
"""


def write_readme(contract: AppContract, golden: GoldenVectors) -> str:
    """Return the README."""
    manifest = golden.manifest
    return _TEXT.format(
        name=contract.name,
        main=contract.model.main,
        samples=len(manifest.samples),
        source="generated" if manifest.source == "generated" else f"from {manifest.source}",
        runtime=manifest.runtime,
    )
