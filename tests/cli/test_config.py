"""Precedence of defaults: option > variable > ./edgewright.toml > user config file > built-in."""

from pathlib import Path

import click
import pytest

from edgewright.api.settings import STORE_KEYS, load_store_settings
from edgewright.cli.app import edgewright
from edgewright.cli.config import list_known_keys, load_config
from edgewright.cli.registry import COMMANDS, FORMER_NAMES, list_options
from edgewright.errors import ConfigError
from edgewright.flows.demo.flow import get_digits_folder
from edgewright.schema.vocabulary import FORMER_OPTIONS
from tests.cli.calling import Call

DIGITS = get_digits_folder()


@pytest.fixture
def user_file(own_home: Path) -> Path:
    path = own_home.with_name("own-config") / "edgewright" / "config.toml"
    path.parent.mkdir(parents=True)
    return path


def plan(call: Call, *words: str) -> dict[str, object]:
    result = call("benchmark", "m.pretend", "--dry-run", *words)
    assert result.code == 0, result.err
    found = result.json()
    assert isinstance(found, dict)
    return found


def config_error(call: Call) -> str:
    result = call("benchmark", "m.pretend", "--dry-run")
    assert result.code == 2
    return " ".join(result.error())


def test_the_order(call: Call, folder: Path, user_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert plan(call)["threads"] == 1
    user_file.write_text("[benchmark]\nthreads = 2\nseed = 7\n")
    assert plan(call)["threads"] == 2
    (folder / "edgewright.toml").write_text("[benchmark]\nthreads = 3\n")
    assert plan(call)["threads"] == 3
    monkeypatch.setenv("EDGEWRIGHT_BENCHMARK_THREADS", "4")
    assert plan(call)["threads"] == 4
    found = plan(call, "--threads", "5")
    assert (found["threads"], found["seed"]) == (5, 7)


def test_keys_are_the_options_as_they_are_typed(call: Call, folder: Path) -> None:
    (folder / "edgewright.toml").write_text(
        '[benchmark]\ntimeout = 9\noption = ["latency-us=7", "noise=0"]\nlayers = false\n'
        'affinity = "0"\nwarmup-seconds = 1\npower_w = 2.5\n'
    )
    found = plan(call)
    assert (found["timeout_s"], found["layers"], found["affinity"]) == (9.0, False, [0])
    assert (found["warmup_seconds"], found["power_w"]) == (1.0, 2.5)
    assert found["candidates"] == plan(call, "-p", "latency-us=7", "-p", "noise=0")["candidates"]


def test_a_single_value_for_what_may_be_repeated(call: Call, folder: Path) -> None:
    (folder / "edgewright.toml").write_text('[benchmark]\nruntime = "pretend"\noption = "noise=0"\n')
    assert "noise" in str(plan(call)["candidates"])


def test_an_alias_reads_the_table_of_its_command(call: Call, folder: Path) -> None:
    (folder / "edgewright.toml").write_text("[benchmark]\nthreads = 3\n")
    assert call("profile", "m.pretend", "--dry-run").json()["threads"] == 3


@pytest.mark.parametrize(
    ("name", "value", "field", "found"),
    [
        ("TIMEOUT", "9", "timeout_s", 9.0),
        ("ON", "pretend", "device", "pretend"),
        ("WARMUP_SECONDS", "1.5", "warmup_seconds", 1.5),
        ("LAYERS", "0", "layers", False),
        ("SEED", "5", "seed", 5),
    ],
)
def test_variables_are_named_as_the_options(
    call: Call, monkeypatch: pytest.MonkeyPatch, name: str, value: str, field: str, found: object
) -> None:
    monkeypatch.setenv(f"EDGEWRIGHT_BENCHMARK_{name}", value)
    assert plan(call)[field] == found


def test_variables_of_a_command_in_a_group(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEWRIGHT_RUNS_LIST_JSON", "1")
    assert call("runs", "list").json() == {"schema": "edgewright.runs/1", "runs": []}
    monkeypatch.setenv("EDGEWRIGHT_RUNS_LIST_LIMIT", "none")
    assert call("runs", "list").code == 2


def test_every_option_has_its_variable() -> None:
    context = click.Context(edgewright)
    for name in COMMANDS:
        command = edgewright.get_command(context, name)
        assert command is not None
        for key, option in list_options(command).items():
            keys = [key, *(former for former, present in FORMER_OPTIONS.items() if present == key)]
            words = [one for one in (name, FORMER_NAMES.get(name)) if one]
            names = [f"EDGEWRIGHT_{word}_{one}".upper() for one in keys for word in words]
            assert option.envvar == (names if len(names) > 1 else names[0])


@pytest.mark.parametrize("table", ["distil", "distill"])
def test_the_former_name_of_a_command_is_read(call: Call, monkeypatch: pytest.MonkeyPatch, table: str) -> None:
    Path("edgewright.toml").write_text(f"[{table}]\nviews = 'many'\n")
    assert "views" in call("distill").err
    Path("edgewright.toml").unlink()
    monkeypatch.setenv(f"EDGEWRIGHT_{table}_VIEWS".upper(), "many")
    assert "views" in call("distill").err


def test_the_former_name_of_an_option_is_read(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Path("net.py")
    source.write_text("def build():\n    raise AssertionError\n")
    task, data = DIGITS / "task.toml", DIGITS / "heldout.npz"
    given: tuple[object, ...] = ("prune", "net.py:build", "--task", task, "--val", data)
    given = (*given, "--data", data, "--dry-run")
    assert call(*given).json()["teach"] is True
    assert call(*given, "--no-teach").json()["teach"] is False
    assert call(*given, "--no-teach", "--distill").json()["teach"] is True
    monkeypatch.setenv("EDGEWRIGHT_PRUNE_TEACH", "false")
    assert call(*given).json()["teach"] is False
    assert call(*given, "--teach").json()["teach"] is True
    monkeypatch.delenv("EDGEWRIGHT_PRUNE_TEACH")
    for key in ("teach", "distill"):
        Path("edgewright.toml").write_text(f"[prune]\n{key} = false\n")
        assert call(*given).json()["teach"] is False
    assert "teach" not in call("prune", "--help").out.replace("teacher", "")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("threads = 1", "known tables: store, "),
        ("[benchmrk]\n", "'benchmrk'"),
        ("[runs]\nlimit = 1\n", "'runs'"),
        ("[benchmark]\nthread = 1\n", "'thread'"),
        ("[benchmark]\ntimeout_s = 1\n", "'timeout_s'"),
        ("[store]\nurl = 'x'\n", "[store] must not be set"),
        ("[benchmark]\nthreads = true\n", "threads = True"),
        ("[benchmark]\nthreads = 1.5\n", "threads = 1.5"),
        ("[benchmark]\nruns = '2'\n", "runs = '2'"),
        ("[benchmark]\nthreads = [2]\n", "threads = [2]"),
        ("[benchmark]\nthreads = 2026-11-20\n", "threads = "),
        ("[benchmark]\nlayers = 1\n", "layers = 1"),
        ("[benchmark]\ninputs = 1\n", "inputs = 1"),
        ("[compile]\noutput = -1\n", "output = -1"),
        ("[benchmark]\nruntime = { a = 1 }\n", "runtime = "),
        ("[benchmark]\ntag = ['a=b', 3.5]\n", "tag = "),
        ("[benchmark]\nthreads = 0\n", "--threads 0"),
        ("[benchmark]\nruntime = 'tensorflow'\n", "tensorflow"),
        ("[benchmark\n", "edgewright.toml cannot be read"),
        ("\udcff", "edgewright.toml cannot be read"),
    ],
)
def test_invalid_config_files(call: Call, folder: Path, text: str, words: str) -> None:
    (folder / "edgewright.toml").write_bytes(text.encode(errors="surrogateescape"))
    assert words in config_error(call)


def test_a_folder_in_place_of_the_file_is_no_config(call: Call, folder: Path) -> None:
    (folder / "edgewright.toml").mkdir()
    assert plan(call)["threads"] == 1


def test_known_keys() -> None:
    known = list_known_keys()
    assert known["store"] == STORE_KEYS
    without = {"runs", "runtimes", "devices", "task", "policy", "kernels", "package", "completion", "llm", "federate"}
    assert set(known) == {"store", *COMMANDS} - without
    assert {"threads", "timeout", "shape", "json", "fail_on_fallback"} <= set(known["benchmark"])


# Location of the store


def test_the_store_is_at_the_configured_location(folder: Path, own_home: Path, user_file: Path) -> None:
    assert load_store_settings({"XDG_CONFIG_HOME": str(own_home.with_name("own-config"))}) == {}
    user_file.write_text("[store]\nhome = '/user'\nblob-url = 's3://bucket'\n")
    environ = {"XDG_CONFIG_HOME": str(own_home.with_name("own-config"))}
    assert load_store_settings(environ) == {"home": "/user", "blob_url": "s3://bucket"}
    assert load_store_settings({**environ, "EDGEWRIGHT_HOME": "/env"})["home"] == "/env"
    assert load_store_settings({**environ, "EDGEWRIGHT_DATABASE_URL": "sqlite:///x"})["database_url"] == "sqlite:///x"


@pytest.mark.parametrize("line", ["home = 3", "blob_url = ['s3://bucket']", "database-url = true"])
def test_a_setting_of_the_store_is_text(folder: Path, own_home: Path, user_file: Path, line: str) -> None:
    user_file.write_text(f"[store]\n{line}\n")
    with pytest.raises(ConfigError, match="wrong type in"):
        load_store_settings({"XDG_CONFIG_HOME": str(own_home.with_name("own-config"))})


def test_a_broken_config_is_a_config_error(folder: Path) -> None:
    (folder / "edgewright.toml").write_text("[nonsense]\n")
    with pytest.raises(ConfigError) as caught:
        load_config({})
    assert caught.value.exit_code == 2


def test_the_home_of_a_config_file_is_used(
    call: Call, folder: Path, user_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EDGEWRIGHT_HOME")
    user_file.write_text(f"[store]\nhome = '{folder / 'here'}'\n")
    assert call("runs", "list").code == 0
    assert (folder / "here" / "edgewright.db").is_file()


@pytest.mark.parametrize("line", ["home = 'here'", "blob_url = 'file:///elsewhere'", "database_url = 'sqlite:///x'"])
def test_a_project_file_does_not_set_the_store(call: Call, folder: Path, line: str) -> None:
    (folder / "edgewright.toml").write_text(f"[store]\n{line}\n")
    result = call("runs", "list")
    assert result.code == 2
    assert "[store] must not be set by a file in the current folder" in result.err


def test_a_home_that_cannot_be_made(call: Call, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "a-file").write_text("")
    monkeypatch.setenv("EDGEWRIGHT_HOME", str(folder / "a-file" / "below"))
    result = call("runs", "list")
    assert result.code == 1
    assert "a-file" in " ".join(result.error())
