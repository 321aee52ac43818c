"""Write the suite: `python -m benchmarks.suite --out FOLDER [--only NAME …] [--torchscript FOLDER] [--programs]`."""

import argparse
import sys
from pathlib import Path
from time import perf_counter

from benchmarks.suite.table import ENTRIES, Entry, find_entry


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.suite", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for the files")
    parser.add_argument("--only", action="append", metavar="NAME", help="only this model; may be repeated")
    parser.add_argument("--torchscript", type=Path, metavar="FOLDER", help="also torch's older exporter, into FOLDER")
    parser.add_argument("--programs", action="store_true", help="also the torch programs (.pt2)")
    arguments = parser.parse_args()
    try:
        entries = [find_entry(name) for name in arguments.only] if arguments.only else list(ENTRIES)
    except KeyError as error:
        parser.error(str(error.args[0]))
    failed = [entry.name for entry in entries if not write(entry, arguments)]
    if failed:
        print(f"not written: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def write(entry: Entry, arguments: argparse.Namespace) -> bool:
    """Export one model in all requested forms; a failure is reported and does not end the others."""
    from benchmarks.suite.export import export_onnx, save_program
    from benchmarks.suite.settle import build_model

    began = perf_counter()
    try:
        model = build_model(entry)
        folders = [(arguments.out, False), *([(arguments.torchscript, True)] if arguments.torchscript else [])]
        for folder, torchscript in folders:
            folder.mkdir(parents=True, exist_ok=True)
            written = export_onnx(entry, model, folder / f"{entry.name}.onnx", torchscript=torchscript)
            weights = sum(parameter.numel() for parameter in model.parameters())
            print(
                f"{entry.name}: {weights / 1e6:.2f} M parameters, {written.bytes:,} bytes, deviation "
                f"{written.deviation:.3g}, max abs {written.max_abs:.2g}, {perf_counter() - began:.1f} s",
                flush=True,
            )
        if arguments.programs:
            save_program(entry, model, arguments.out / f"{entry.name}.pt2")
    except Exception as error:
        print(f"{entry.name}: {type(error).__name__}: {error}", file=sys.stderr)
        return False
    return True


if __name__ == "__main__":
    raise SystemExit(main())
