"""The README of a web project."""

from edgewright.packaging.contract import AppContract
from edgewright.packaging.golden import GoldenVectors

_TEXT = """# {name}

A web page that runs {main} in {runtime}. It makes no request to any other address, and works without a network once it
was loaded.

## Open it

Serve this folder, and open the address it prints:

    python3 -m http.server --bind 127.0.0.1 8000

Browsers give the camera, WebGPU and service workers to pages at `https://` or `localhost` only: a phone needs HTTPS.

## What is yours

`index.html`, `style.css` and `app.js` are the page. The folder `edgewright/` is a library that depends on nothing:

| file | contents |
|---|---|
| `client.js` | self-test, choice of the unit, calls to the worker |
| `preprocess.js` | image preprocessing, bit-identical to `edgewright evaluate` |
| `answers.js` | postprocessing |
| `engine.js` | the model in {runtime} |

Run `edgewright package web` again after a change of the model or the task: files that you changed stay as they are.

## What is verified

The first screen is the self-test: {samples} golden vectors ({source}). Preprocessing must be equal bit for bit, and the
outputs of a unit must differ by at most:

{tolerances}

WebGPU and WebAssembly are tested; the fastest unit that passes is used, and tested again at each start. "Save the
result" writes `selftest.json`.

Only a device can verify its own browser, GPU and camera: run the self-test on each that you support.
{missing}"""

_MISSING = """
## Missing files

`runtime/` is empty. Run `edgewright runtimes setup web`, then `edgewright package web` again.
"""
_TITLES = {"onnxruntime": "onnxruntime-web", "litert": "LiteRT.js"}


def write_readme(contract: AppContract, golden: GoldenVectors, *, complete: bool) -> str:
    """Return the README; `complete` is whether the project has the runtime's files."""
    manifest = golden.manifest
    return _TEXT.format(
        name=contract.name,
        main=contract.model.main,
        runtime=_TITLES[contract.model.runtime],
        samples=len(manifest.samples),
        source="generated" if manifest.source == "generated" else f"from {manifest.source}",
        tolerances="\n".join(f"- `{name}`: {value:.3g}" for name, value in manifest.tolerance.items()),
        missing="" if complete else _MISSING,
    )
