"""The runtimes of browsers: pinned npm packages, and where their files are on this machine."""

from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

FOLDER = "web-runtimes"  # in the user's data folder
HASH_DIGITS = 12
PURPOSE = "onnxruntime-web and LiteRT.js for browsers as devices"
MEGABYTES = 71


class WebPackage(NamedTuple):
    """An npm package.

    Attributes:
        runtime: the runtime of `runtimes/table.py` that it is in a browser.
        integrity: the registry's sha512 of the archive, as `npm view NAME dist.integrity` prints it.
        files: the files that pages load.
    """

    name: str
    version: str
    runtime: str
    integrity: str
    files: tuple[str, ...]

    @property
    def folder(self) -> str:
        return self.name.removeprefix("@").replace("/", "-")

    @property
    def archive(self) -> str:
        """Return the file name that `npm pack` gives it."""
        return f"{self.folder}-{self.version}.tgz"


WEB_PACKAGES = (
    WebPackage(
        "onnxruntime-web",
        "1.30.0",
        "onnxruntime",
        "sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ==",
        (
            "dist/ort.wasm.min.mjs",
            "dist/ort-wasm-simd-threaded.mjs",
            "dist/ort-wasm-simd-threaded.wasm",
            "dist/ort.webgpu.min.mjs",
            "dist/ort-wasm-simd-threaded.asyncify.mjs",
            "dist/ort-wasm-simd-threaded.asyncify.wasm",
        ),
    ),
    WebPackage(
        "@litertjs/core",
        "2.5.3",
        "litert",
        "sha512-PlGmbMOq9WitX7FO0jhbdJw9GthatsyuCQXjTt/wJZo0FLaw48q4tz8IwqgqCIkviYGr9OFDL1kCnN4nzWoyJQ==",
        (
            "dist/index.js",
            "wasm/litert_wasm_internal.js",
            "wasm/litert_wasm_internal.wasm",
            "wasm/litert_wasm_threaded_internal.js",
            "wasm/litert_wasm_threaded_internal.wasm",
            "wasm/litert_wasm_jspi_internal.js",
            "wasm/litert_wasm_jspi_internal.wasm",
        ),
    ),
    WebPackage(
        "@litertjs/wasm-utils",
        "2.5.3",
        "litert",
        "sha512-4fJiw6tBQnIs+0jH/OQ16nYOiSl8/+zZnn5h2ul8aTKHi05sVqZW580Tmk78pC2kT39A9OYBVdFawteZ/sI1kQ==",
        ("dist/index.js",),
    ),
)


def read_lock() -> str:
    """Return the hash of the table, on which the folder's name depends."""
    return sha256(repr(WEB_PACKAGES).encode()).hexdigest()


def find_folder(home: Path) -> Path:
    """Return the folder of the packages' files; it exists if they are set up."""
    return home / FOLDER / read_lock()[:HASH_DIGITS]


def list_web_runtimes(home: Path) -> dict[str, str]:
    """Return the versions of the runtimes for browsers by their names; empty before the setup."""
    if not find_folder(home).is_dir():
        return {}
    return {package.runtime: package.version for package in reversed(WEB_PACKAGES)}
