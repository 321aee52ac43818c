"""A bundle: variants of one model with what was measured of them, in one folder, and the choice between them."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from edgewright.errors import ConfigError
from edgewright.formats.files import hash_file
from edgewright.system.files import read_regular

BUNDLE_SCHEMA = "edgewright.bundle/1"
BUNDLE_FILE = "bundle.json"
TIERS = ("high", "mid", "low")
MEMORY_SHARE = 0.25  # of a device's memory that a variant may take


class Variant(Struct, frozen=True, kw_only=True):
    """One variant. The first of a bundle is the full one.

    Attributes:
        path: relative to the bundle.
        tier: class of devices that it is for: high, mid or low.
        p50_us, peak_bytes: median time and peak memory, measured on the machine that made the bundle; None if unknown.
        metric: on the data that was given; None without data.
    """

    name: str
    path: str
    sha256: str
    tier: str
    runtime: str
    bytes: int
    p50_us: float | None
    peak_bytes: int | None
    metric: float | None
    run_id: str | None


class Bundle(Struct, frozen=True, kw_only=True):
    """Variants from the fullest to the lightest, and the task that they have in common."""

    schema: str = BUNDLE_SCHEMA
    variants: tuple[Variant, ...]
    task: str | None
    metric: str | None
    measured_on: str


def read_bundle(folder: Path, *, check: bool = True) -> Bundle:
    """Return the bundle of a folder. Raises ConfigError if it is no bundle, or a file of it was changed.

    Args:
        check: whether the files' hashes are compared.
    """
    path = folder / BUNDLE_FILE
    try:
        bundle = msgspec.json.decode(read_regular(path), type=Bundle)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{folder} is not a bundle", str(error), "edgewright bundle FULL LITE -o FOLDER") from None
    if bundle.schema != BUNDLE_SCHEMA or not bundle.variants:
        why = f"its schema is {bundle.schema}, and it has {len(bundle.variants)} variants"
        raise ConfigError(f"{folder} is not a usable bundle", why, "edgewright bundle FULL LITE -o FOLDER")
    for one in bundle.variants:
        _check_file(folder, one, check=check)
    return bundle


def _check_file(folder: Path, variant: Variant, *, check: bool) -> None:
    path = Path(variant.path)
    if path.is_absolute() or ".." in path.parts:
        raise ConfigError(f"a path of the bundle {folder} is outside of it", variant.path, "make the bundle again")
    try:
        found = hash_file(folder / path) if check else variant.sha256
    except OSError as error:
        raise ConfigError(
            f"{folder / path} cannot be read", error.strerror or str(error), "make the bundle again"
        ) from None
    if found != variant.sha256:
        why = f"its SHA-256 is {found[:16]}…, and the bundle has {variant.sha256[:16]}…"
        raise ConfigError(f"{folder / path} was changed", why, "make the bundle again")


def choose_variant(variants: Sequence[Variant], memory_bytes: int | None, tier: str = "") -> Variant:
    """Return the fullest variant that fits a device; if none fits, the lightest.

    Args:
        memory_bytes: of the device. A variant may take a quarter of it; None if it is not known.
        tier: of the device, if the app knows it: then no variant of a higher tier is chosen.
    """
    order = {name: number for number, name in enumerate(TIERS)}
    allowed = [one for one in variants if order.get(one.tier, 0) >= order.get(tier, 0)]
    for one in allowed:
        if memory_bytes is None or one.peak_bytes is None or one.peak_bytes <= memory_bytes * MEMORY_SHARE:
            return one
    return variants[-1]
