"""Measure what the installed runtimes take and write their support tables from it.

    python scripts/support_tables.py [--check] [--from FOLDER] [RUNTIME...]

Each probe of `tests/runtimes/support/probes.py` is compiled by each runtime: some 20 minutes for the slow ones. What
came out is kept as FOLDER/RUNTIME.json, and `--from` takes it from there. With --check nothing is written, and the exit
code says whether the tables are what a run gives.
"""

import argparse
import json
import re
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from edgewright.runtimes.table import TABLE  # noqa: E402 - the path is set above
from scripts.support_units import NCNN_VULKAN, OPENVINO_FOREIGN, OPENVINO_OPERATIONS, UNITS  # noqa: E402 - as above
from tests.runtimes.support.bases import Probe  # noqa: E402 - as above
from tests.runtimes.support.probes import fewer_probes, probes  # noqa: E402 - as above
from tests.runtimes.support.trial import Outcome, try_probes  # noqa: E402 - as above

SLOW = ("ncnn", "mnn", "executorch", "coreml")
# Attributes of which a rejected value represents all other than the usual one.
WIDER = {"dilations": {"above": 1}, "output_padding": {"above": 0}, "strides": {"above": 1}, "alpha": {"not": 1.0}}
CAST_TYPES = {1: "float32", 2: "uint8", 6: "int32", 7: "int64", 9: "bool", 10: "float16", 11: "float64"}
# What becomes of the rounding in a QDQ model, where the compiler reads such a model in a way of its own.
PAIRS = {
    "ncnn": (
        "a pair becomes the scales of the INT8 layers that read it; ncnn has no zero points, so the "
        "layer rounds to 127 steps on either side of zero"
    ),
    "mnn": ("a pair becomes the scale and zero point of its tensor, from which MNN builds its INT8 layers"),
    "executorch": (
        "a pair becomes torch's quantize_per_tensor and dequantize_per_tensor on int8, which XNNPACK "
        "takes together with what lies between"
    ),
}
NOTES = {
    "ncnn": "an artifact supports a single sample: the batch of every input must be 1",
    "executorch": "ONNX is converted through torch",
    "coreml": "ONNX is converted through torch; artifacts run only on macOS",
}
MOST_AXES = {"coreml": 5}
MOST_REASON = 140
MOST_RANKS = 8


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--from", dest="folder", type=Path)
    parser.add_argument("runtimes", nargs="*", default=[])
    asked = parser.parse_args()
    same = True
    for runtime in asked.runtimes or UNITS:
        text = write_table(runtime, measure(runtime, asked.folder))
        path = ROOT / "src/edgewright/runtimes" / runtime / "support.json"
        if asked.check:
            same &= path.is_file() and path.read_text() == text
        else:
            path.write_text(text)
            print(runtime, len(text))
    return int(not same)


def measure(runtime: str, folder: Path | None) -> dict[str, Outcome]:
    known = folder / f"{runtime}.json" if folder else None
    if known and known.is_file():
        return {
            name: Outcome(bool(ok), why, tuple(made), tuple(left))
            for name, (ok, why, made, left) in json.loads(known.read_text()).items()
        }
    chosen = fewer_probes() if runtime in SLOW else probes()
    outcomes = try_probes(runtime, [probe.name for probe in chosen], 120)
    if known:
        known.write_text(json.dumps(outcomes))
    return outcomes


def write_table(runtime: str, outcomes: Mapping[str, Outcome]) -> str:
    grouped: dict[str, list[tuple[Probe, Outcome]]] = defaultdict(list)
    for probe in probes():
        if probe.name in outcomes and probe.change[:1] != ("opset",):
            grouped[probe.op].append((probe, outcomes[probe.name]))
    versions = {name: version(name).partition("+")[0] for name in TABLE[runtime].compile_tools if name != "onnx"}
    source = "measured with " + ", ".join(f"{name} {number}" for name, number in versions.items())
    operators, rejected = {}, {}
    # LiteRT's writer is asked itself, by a dry run.
    for op, tried in sorted(grouped.items()) if runtime != "litert" else []:
        if any(outcome.ok for _, outcome in tried):
            operators[op] = derive(runtime, op, tried)
        else:
            rejected[op] = shorten(op, tried[0][1].why)
    operators |= {op: rule for op, rule in find_untried(runtime).items() if op not in {**operators, **rejected}}
    table = {
        "schema": "edgewright.support/1",
        "runtime": runtime,
        "versions": versions,
        "source": source,
        "reads": [kind for kind in TABLE[runtime].compiles if kind != "torch"],
        "units_in": "own" if runtime == "litert" else "source",
        "opsets": find_opsets(outcomes),
        "most_axes": MOST_AXES.get(runtime),
        "note": NOTES.get(runtime, ""),
        "pairs": PAIRS.get(runtime, ""),
        "operators": operators,
        "refused": rejected,
        "units": [complete(runtime, unit, grouped, source) for unit in UNITS[runtime]],
    }
    kept = {key: value for key, value in table.items() if value not in (None, "", {}, [])}
    return lay_out(kept)


def find_untried(runtime: str) -> dict[str, dict[str, Any]]:
    """Operators that no probe is made of, by other evidence: kernels that are registered, or a page that lists them."""
    if runtime == "openvino":
        return {f"com.microsoft::{op}": {"source": OPENVINO_OPERATIONS} for op in OPENVINO_FOREIGN}
    if runtime != "onnxruntime":
        return {}
    from onnx.defs import get_all_schemas_with_history
    from onnxruntime.capi.onnxruntime_pybind11_state import get_all_opkernel_def

    kernels = {(one.domain, one.op_name) for one in get_all_opkernel_def() if one.provider == "CPUExecutionProvider"}
    known = {schema.name for schema in get_all_schemas_with_history() if schema.domain == ""}
    taken = [(domain, op) for domain, op in sorted(kernels) if op in known or domain not in ("", "com.microsoft.nchwc")]
    names = [f"{domain}::{op}" if domain else op for domain, op in taken if domain != "com.microsoft.nchwc"]
    source = f"a CPU kernel is registered in onnxruntime {version('onnxruntime')}"
    return {name: {"source": source} for name in names}


def lay_out(table: Mapping[str, Any]) -> str:
    """JSON with a line for each operator and for each field of a unit."""
    lines = []
    for key, value in table.items():
        if key in ("operators", "refused"):
            inner = ",\n".join(
                f"    {json.dumps(op)}: {json.dumps(rule, ensure_ascii=False)}" for op, rule in value.items()
            )
            lines.append(f"  {json.dumps(key)}: {{\n{inner}\n  }}")
        elif key == "units":
            units = [
                ",\n".join(f"      {json.dumps(k)}: {json.dumps(v, ensure_ascii=False)}" for k, v in one.items())
                for one in value
            ]
            body = ",\n".join("    {\n" + unit + "\n    }" for unit in units)
            lines.append(f'  "units": [\n{body}\n  ]')
        else:
            lines.append(f"  {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def find_opsets(outcomes: Mapping[str, Outcome]) -> list[int] | None:
    """The oldest and the newest opset of a Relu that compiles."""
    taken = sorted(
        int(name.split()[-1]) for name, outcome in outcomes.items() if name.startswith("Relu opset") and outcome.ok
    )
    return [taken[0], taken[-1]] if taken else None


def derive(runtime: str, op: str, tried: Sequence[tuple[Probe, Outcome]]) -> dict[str, Any]:
    """Return a rule with the rejected changes."""
    base, first = tried[0]
    rule: dict[str, Any] = {}
    by_kind: dict[str, list[tuple[Probe, bool]]] = defaultdict(list)
    for probe, outcome in tried[1:]:
        by_kind[probe.change[0]].append((probe, outcome.ok))
    main = base.inputs[base.main]
    assert main is not None
    rule |= limit_dtypes(main.dtype, by_kind["dtype"], is_base_taken=first.ok)
    rule |= limit_ranks(len(main.shape), by_kind["rank"], is_base_taken=first.ok)
    constants = [int(probe.change[1]) for probe, ok in by_kind["computed"] if not ok]
    if constants:
        rule["constants"] = constants
    computed = [int(probe.change[1]) for probe, ok in by_kind["constant"] if not ok]
    if not first.ok:  # what made it work is what it needs
        computed += [int(probe.change[1]) for probe, ok in by_kind["computed"] if ok]
        if need := [difference(base, probe) for probe, ok in by_kind["attribute"] if ok]:
            rule["need"] = need
    if computed:
        rule["computed"] = computed
    conditions = [
        condition for probe, ok in by_kind["attribute"] if not ok and (condition := as_condition(base, probe))
    ]
    if conditions and first.ok:
        rule["refuse"] = conditions
    if base.main:
        rule["main"] = base.main
    if text := rewrites(runtime).get(op):
        rule["rewrite"] = text
    return rule


def limit_dtypes(own: str, tried: Sequence[tuple[Probe, bool]], *, is_base_taken: bool) -> dict[str, Any]:
    """int32 goes with int64 where it was not tried."""
    taken = [probe.change[1] for probe, ok in tried if ok]
    if all(ok for _, ok in tried) and (is_base_taken or not taken):
        return {}
    names = [*([own] if is_base_taken or not taken else []), *taken]
    if "int64" in names and "int32" not in [own, *(probe.change[1] for probe, _ in tried)]:
        names.append("int32")
    return {"dtypes": names}


def limit_ranks(own: int, tried: Sequence[tuple[Probe, bool]], *, is_base_taken: bool) -> dict[str, Any]:
    """Return the accepted values, without rejected ones and those above the highest accepted one if a higher one was
    rejected."""
    taken = [int(probe.change[1]) for probe, ok in tried if ok]
    rejected = [int(probe.change[1]) for probe, ok in tried if not ok]
    if not rejected:
        return {}
    (taken if is_base_taken or not taken else rejected).append(own)
    highest = max(taken) if max(rejected) > max(taken) else MOST_RANKS
    return {"ranks": [rank for rank in range(highest + 1) if rank not in rejected]}


def difference(base: Probe, probe: Probe) -> dict[str, Any]:
    return {name: value for name, value in probe.attributes.items() if base.attributes.get(name) != value}


def as_condition(base: Probe, probe: Probe) -> dict[str, Any]:
    """What sets the attributes apart from the base's, as a condition of a rule."""
    found: dict[str, Any] = {}
    for name, value in probe.attributes.items():
        if base.attributes.get(name) == value:
            continue
        if name == "pads":
            found[name] = {"asymmetric": True} if value[: len(value) // 2] != value[len(value) // 2 :] else {"above": 0}
        else:
            found[name] = WIDER.get(name, value)
    return found


def rewrites(runtime: str) -> dict[str, str]:
    """What Edgewright writes in an operator's place for this runtime, in the words of its own functions."""
    if runtime not in ("ncnn", "mnn"):
        return {}
    from importlib import import_module

    table = import_module(f"edgewright.runtimes.{runtime}.conversion.rewrites").REWRITES
    return {op: " ".join((function.__doc__ or "").split("\n\n")[0].split()) for op, function in table.items()}


def shorten(op: str, reason: str) -> str:
    """The first sentence of a reason, without the class of the error and without the probe's own names."""
    text = reason.partition(": ")[2] if reason.partition(": ")[0].isidentifier() else reason
    text = " ".join(
        text.replace(" 'node'", "")
        .replace(" ('node')", "")
        .replace("the model cannot be converted to torch: ", "")
        .replace(" (node node)", "")
        .replace(" (node 'node')", "")
        .split()
    )
    text = re.sub(r" and ended by signal \d+: .*", "", text).removeprefix(f"{op}: ")
    return text if len(text) <= MOST_REASON else text[:MOST_REASON].rsplit(" ", 1)[0] + " …"


# Units


def complete(runtime: str, unit: dict[str, Any], grouped: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Return the unit with the results of the probes."""
    done = dict(unit)
    tried = [pair for pairs in grouped.values() for pair in pairs]
    if unit["backend"] == "XNNPACK":
        done["source"] = source
        done |= derive_xnnpack(tried) if runtime == "litert" else derive_delegated(grouped)
        for op, more in unit.get("rules", {}).items():
            done["rules"][op] = done["rules"].get(op, {}) | more
    elif unit["backend"] == "Vulkan":
        done["operators"] = find_vulkan(grouped)
    elif not unit["source"]:
        done["source"] = source
    return done


def derive_xnnpack(tried: Sequence[tuple[Probe, Outcome]]) -> dict[str, Any]:
    """By LiteRT's operator: the types and ranks of its input that the delegate takes; at least once suffices."""
    taken: dict[str, set[tuple[str, int]]] = defaultdict(set)
    seen: dict[str, set[tuple[str, int]]] = defaultdict(set)
    for _, outcome in tried:
        left = list(outcome.left)
        for text in outcome.made:
            op, dtype, rank = text.split()
            seen[op].add((dtype, int(rank)))
            if text in left:
                left.remove(text)
            else:
                taken[op].add((dtype, int(rank)))
    rules = {}
    for op in sorted(taken):
        rule: dict[str, Any] = {"dtypes": sorted({dtype for dtype, _ in taken[op]})}
        ranks = {rank for _, rank in taken[op]}
        if missing := {rank for dtype, rank in seen[op] if dtype in rule["dtypes"]} - ranks:
            rule["ranks"] = sorted(set(range(max(ranks) + 1)) - missing)
        rules[op] = rule
    return {"operators": sorted(taken), "rules": rules}


def derive_delegated(grouped: Mapping[str, Sequence[tuple[Probe, Outcome]]]) -> dict[str, Any]:
    """ONNX operators that leave no kernel outside of the delegate, and what of each does."""
    operators, rules = [], {}
    for op, tried in sorted(grouped.items()):
        compiled = [(probe, outcome._replace(ok=not outcome.left)) for probe, outcome in tried if outcome.ok]
        if any(outcome.ok for _, outcome in compiled):
            operators.append(op)
            if compiled[0][0].change == () and (rule := derive("", op, compiled)):
                rules[op] = rule
    return {"operators": operators, "rules": rules}


def find_vulkan(grouped: Mapping[str, Sequence[tuple[Probe, Outcome]]]) -> list[str]:
    """Operators whose plainest form becomes layers that all have a Vulkan implementation."""
    found = []
    for op, tried in sorted(grouped.items()):
        made = next((outcome.made for _, outcome in tried if outcome.ok), None)
        if made is not None and set(made) <= set(NCNN_VULKAN):
            found.append(op)
    return found


if __name__ == "__main__":
    sys.exit(main())
