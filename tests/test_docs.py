"""Everything that a user can meet is written down somewhere in docs/."""

import re
from collections.abc import Iterable
from typing import Literal, get_args, get_origin

import click
from msgspec import Struct
from msgspec.structs import fields

from edgewright.api.settings import STORE_KEYS
from edgewright.bench.warnings import RULES
from edgewright.cli.app import edgewright
from edgewright.cli.config import list_known_keys
from edgewright.cli.registry import ALIASES, COMMANDS, list_options
from edgewright.flows.distill.report import DistillReport
from edgewright.flows.experiment.report import MetricDelta, NetworkReport, SeedRow, WidthRow
from edgewright.flows.prune.report import PruneReport
from edgewright.flows.quantize.report import (
    FinetuneReport,
    MetricWithReference,
    ProtectedOperator,
    QuantizedRow,
    QuantizeReport,
    Speedup,
)
from edgewright.quantization.job import FidelityReport, QuantizationReport, TensorReport, WeightNodeReport
from edgewright.quantization.recipe import Method, NodePrecision, Recipe, RecipeRule, Rounding
from edgewright.runtimes.table import TABLE
from edgewright.schema.artifact import Artifact
from edgewright.store.runs.queries import RunSummary
from edgewright.tasks.spec.file import Task
from edgewright.tasks.spec.task import BUILTIN_METRICS, Dtype, Input, Output
from edgewright.training.job import DistillationSettings, Settings, SparsitySettings
from tests.error_classes import EXIT_CODES, OURS
from tests.paths import ROOT

INPUTS, OUTPUTS = get_args(Input), get_args(Output)
TEXT = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md")))
SOURCE = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "src").rglob("*.py")))


def missing(wanted: Iterable[str]) -> list[str]:
    """Return the words that the documentation does not contain."""
    return [word for word in sorted(set(wanted)) if not re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", TEXT)]


def demand(what: str, lacking: Iterable[str]) -> None:
    """Fail with all that is lacking, one a line."""
    lines = [f"  {word}" for word in lacking]
    assert not lines, "\n".join([f"docs/*.md does not describe {len(lines)} {what}:", *lines])


def commands(command: click.Command = edgewright, path: str = "edgewright") -> dict[str, click.Command]:
    if not isinstance(command, click.Group):
        return {path: command}
    context = click.Context(command)
    inner = {name: command.get_command(context, name) for name in command.list_commands(context)}
    below = [commands(one, f"{path} {name}") for name, one in inner.items() if one is not None]
    return {path: command} | {name: one for found in below for name, one in found.items()}


def flags(command: click.Command) -> list[str]:
    return [name for option in list_options(command).values() for name in (*option.opts, *option.secondary_opts)]


def test_commands() -> None:
    demand("commands", missing([*commands(), *ALIASES]))


def test_headings() -> None:
    headings = "\n".join(line for line in TEXT.splitlines() if line.startswith("#"))
    demand("commands in a heading", [name for name in COMMANDS if not re.search(rf"\b{name}\b", headings)])


def test_options() -> None:
    found = {path: missing(flags(command)) for path, command in commands().items()}
    demand("options", [f"{path} {' '.join(names)}" for path, names in found.items() if names])


def test_options_of_runtimes() -> None:
    found = {info.name: missing(option.name for option in info.options) for info in TABLE.values()}
    demand("runtimes' options", [f"{name} -p {option}" for name, options in found.items() for option in options])
    compiling = {info.name: missing(option.name for option in info.compile_options) for info in TABLE.values()}
    demand("compilers' options", [f"{name} -p {option}" for name, options in compiling.items() for option in options])


def test_config_tables_and_keys() -> None:
    demand("config tables", [f"[{table}]" for table in list_known_keys() if f"[{table}]" not in TEXT])
    demand("config keys", [f"[{table}] {key}" for table, keys in list_known_keys().items() for key in missing(keys)])


def test_errors_with_their_exit_codes() -> None:
    def is_documented(name: str, code: int) -> bool:
        return bool(re.search(rf"^.*\b{name}\b.*(?<!\d){code}(?!\d)", TEXT, re.MULTILINE))

    lacking = [kind for kind in OURS if not is_documented(kind.__name__, kind.exit_code)]
    demand("errors with their exit code on one line", [f"{kind.__name__} {kind.exit_code}" for kind in lacking])


def test_exit_codes() -> None:
    tables = {
        page: re.findall(r"^\| (\d+) \| (.+) \|$", (ROOT / f"docs/{page}.md").read_text(encoding="utf-8"), re.MULTILINE)
        for page in ("errors", "commands")
    }
    for page, rows in tables.items():
        assert [int(code) for code, _ in rows] == sorted(EXIT_CODES), page
    assert edgewright.epilog == f"Exit codes: {', '.join(' '.join(row) for row in tables['errors'])}."


def test_warnings() -> None:
    demand("warnings", missing(RULES))


def test_environment_variables() -> None:
    named = set(re.findall(r"\bEDGEWRIGHT_[A-Z_]*[A-Z]\b", SOURCE)) | {"EDGEWRIGHT_BENCHMARK_THREADS", "NO_COLOR"}
    named |= {f"EDGEWRIGHT_{key.upper()}" for key in STORE_KEYS}
    demand("environment variables", missing(named))


def test_keys_of_a_task() -> None:
    page = (ROOT / "docs/task.md").read_text(encoding="utf-8")
    kinds = (Task, *OUTPUTS, *INPUTS)
    keys = {key for kind in kinds for key in kind.__struct_fields__}
    demand("keys of task.toml", [key for key in sorted(keys) if f"`{key}`" not in page])
    words = {str(kind.__struct_config__.tag) for kind in kinds if kind is not Task}
    demand("kinds of task.toml", [word for word in sorted(words) if f'kind = "{word}"' not in page])
    choices = {word for kind in kinds for word in words_of(kind)} | set(BUILTIN_METRICS)
    demand("values of task.toml", [word for word in sorted(choices) if f"`{word}`" not in page])


def test_keys_of_a_recipe_and_of_a_quantization() -> None:
    page = (ROOT / "docs/quantize.md").read_text(encoding="utf-8")
    kinds = (
        Recipe,
        RecipeRule,
        QuantizeReport,
        QuantizedRow,
        MetricWithReference,
        Speedup,
        ProtectedOperator,
        QuantizationReport,
        FidelityReport,
    )
    keys = {key for kind in (*kinds, WeightNodeReport, TensorReport) for key in kind.__struct_fields__}
    demand("keys of a recipe or of a quantization", [key for key in sorted(keys) if f"`{key}`" not in page])
    choices = {str(word) for kind in (NodePrecision, Method, Rounding) for word in get_args(kind)}
    demand("values of recipe.toml", [word for word in sorted(choices) if f"`{word}`" not in page])


def test_keys_of_trainings() -> None:
    pages = "".join((ROOT / f"docs/{name}.md").read_text(encoding="utf-8") for name in ("prune", "distill"))
    kinds = (PruneReport, DistillReport, NetworkReport, SeedRow, MetricDelta, WidthRow)
    keys = {key for kind in kinds for key in kind.__struct_encode_fields__} - {"schema"}
    demand("keys of a training's report", [key for key in sorted(keys) if f"`{key}`" not in pages])
    page = (ROOT / "docs/training.md").read_text(encoding="utf-8")
    words = {key for kind in (Settings, DistillationSettings, SparsitySettings) for key in kind.__struct_fields__}
    demand("words of a training", [key for key in sorted(words) if f"`{key}`" not in page])
    quantize = (ROOT / "docs/quantize.md").read_text(encoding="utf-8")
    demand("keys of a fine-tuning", [key for key in FinetuneReport.__struct_fields__ if f"`{key}`" not in quantize])


def words_of(kind: type[Struct]) -> set[str]:
    """What the keys of one word may be."""
    types = [field.type for field in fields(kind)]
    return {str(word) for one in types if get_origin(one) is Literal and one is not Dtype for word in get_args(one)}


def test_schemas() -> None:
    demand("schemas", missing(re.findall(r"\"(edgewright\.[a-z-]+/\d+)\"", SOURCE)))


def test_fields_of_a_run_in_a_list() -> None:
    section = (
        (ROOT / "docs/benchmark.md").read_text(encoding="utf-8").split("\n## edgewright.runs/1")[1].split("\n## ")[0]
    )
    demand("fields of a row of runs list", [key for key in RunSummary.__struct_fields__ if f"`{key}`" not in section])


def test_fields_of_an_artifacts_record() -> None:
    page = (ROOT / "docs/compile.md").read_text(encoding="utf-8").split("\n| field of the record |")[1]
    demand("fields of an artifact's record", [key for key in Artifact.__struct_fields__ if f"`{key}`" not in page])


def test_precisions_of_runtimes() -> None:
    rows = re.findall(r"^\| \[`(\w+)`\]\([^|]+\|[^|]+\|[^|]+\| ([^|]+) \|", TEXT, re.MULTILINE)
    assert {name: tuple(cell.split(", ")) for name, cell in rows if name in TABLE} == {
        info.name: info.precisions for info in TABLE.values() if info.reads
    }


def test_links_lead_somewhere() -> None:
    """Relative links of the security page and of what names it, with their headings."""
    page = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    assert "../SECURITY.md" in (ROOT / "docs/index.md").read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", page):
        path, _, anchor = target.partition("#")
        text = (ROOT / path).read_text(encoding="utf-8")
        headings = [
            re.sub(r"[^\w\- ]", "", line.lstrip("# ")).lower().replace(" ", "-")
            for line in text.splitlines()
            if line.startswith("#")
        ]
        assert not anchor or anchor in headings, target
