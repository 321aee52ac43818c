"""The `edgewright` command: lazy import of commands, config files, and errors in three lines."""

import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import click

from edgewright import __version__
from edgewright.api.values import check_utf8
from edgewright.api.wording import name_options
from edgewright.cli.completion import add_completion
from edgewright.cli.help.pages import HelpedGroup
from edgewright.cli.interrupts import get_exit_code, get_signal_name, was_interrupted
from edgewright.cli.registry import COMMANDS, OTHER_NAMES, find_command, normalize_option
from edgewright.cli.rendering.output import localize, print_message
from edgewright.cli.rendering.streams import tolerate_closed_streams
from edgewright.errors import Cancelled, EdgewrightError, GateFailed, UsageError, find_full_disk_error
from edgewright.schema.text import find_close, suggest

DEBUG = "EDGEWRIGHT_DEBUG"


class LazyGroup(HelpedGroup):
    """Group that imports a command's module only when the command is used, and lists commands in the order of use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        command = find_command(cmd_name)
        if command is not None:
            add_completion(command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Replace an alias by the command's own name, which config tables and help texts use."""
        _, command, rest = super().resolve_command(ctx, args)
        return command.name if command else None, command, rest


@click.group(
    cls=LazyGroup,
    invoke_without_command=True,
    context_settings={
        "token_normalize_func": normalize_option,
        "help_option_names": ["-h", "--help"],
        "max_content_width": 100,
        "show_default": True,
    },
    epilog="Exit codes: 0 done, 1 failed, 2 usage, 3 a gate failed, 4 device unreachable, 5 runtime not installed, "
    "6 model not supported, 124 timeout, 130 interrupted (143 by SIGTERM, 129 by SIGHUP).",
)
@click.version_option(__version__, prog_name="edgewright")
@click.option("--debug", is_flag=True, envvar=DEBUG, help="Show the traceback of an error.")
@click.pass_context
def edgewright(ctx: click.Context, debug: bool) -> None:
    """Deploy a trained model to phones and edge devices, and measure it there."""
    from edgewright.cli.config import load_config, make_command_defaults
    from edgewright.cli.project_file import FILE_NAME

    config = load_config(os.environ)
    ctx.default_map = make_command_defaults(config)
    ctx.meta[FILE_NAME] = config.project
    if ctx.invoked_subcommand is None:
        from edgewright.cli.overview import show_overview

        show_overview()


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code."""
    debug = "--debug" in arguments or os.environ.get(DEBUG, "0") not in ("", "0", "off", "no", "false")
    arguments = [argument for argument in arguments if argument != "--debug"]  # allowed in any position
    if arguments[:1] == ["help"]:
        arguments = [*arguments[1:], "--help"]
    with tolerate_closed_streams(), name_options():
        return _run_command(arguments, debug=debug)


def _run_command(arguments: list[str], *, debug: bool) -> int:
    try:
        _check_encoding(arguments, os.environ)
        result = edgewright.main(arguments, prog_name="edgewright", standalone_mode=False)
    except Cancelled as error:
        cancelled = Cancelled(error.what.replace("Ctrl-C", get_signal_name()), error.why, error.try_this)
        _print_error(cancelled.with_traceback(error.__traceback__), debug=debug)
        return get_exit_code()
    except EdgewrightError as error:
        return _print_error(_find_cause(error), debug=debug)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return error.exit_code
    except click.ClickException as error:
        return _print_error(_translate_click_error(error), debug=debug)
    except (KeyboardInterrupt, click.Abort):
        return _print_stop()
    except Exception as error:
        if was_interrupted():  # a library turned KeyboardInterrupt into another exception
            return _print_stop()
        return _print_unexpected(error, debug=debug)
    return result if isinstance(result, int) else 0


def _check_encoding(arguments: Sequence[str], environ: Mapping[str, str]) -> None:
    """Raise UsageError for an argument, an EDGEWRIGHT_ variable or a current folder that is not UTF-8."""
    for number, word in enumerate(arguments, 1):
        check_utf8(f"argument {number}", word)
    for name, value in environ.items():
        if name.startswith("EDGEWRIGHT_"):
            check_utf8(name, value)
    with suppress(OSError):  # a current folder that was deleted
        check_utf8("the current folder", str(Path.cwd()))


def _find_cause(error: EdgewrightError) -> EdgewrightError:
    """Return the full-disk error if a full disk caused this error. A failed gate is a measurement and stays."""
    from edgewright.system.disk import attribute_to_full_disk

    return error if isinstance(error, GateFailed) else attribute_to_full_disk(error)


def _print_stop() -> int:
    print_message(f"Stopped by {get_signal_name()}.")
    return get_exit_code()


def _translate_click_error(error: click.ClickException) -> UsageError:
    """Return click's error as a UsageError."""
    context = error.ctx if isinstance(error, click.UsageError) else None
    if context is None:
        return UsageError(error.format_message(), "the command line is not complete")
    why = " ".join(context.get_usage().split()).replace("Usage:", "usage:", 1)
    if isinstance(context.command, click.Group):
        known = context.command.list_commands(context)
        why = f"known: {', '.join(known)}"
        given = str(getattr(error, "command_name", ""))
        if close := find_close(given, [*known, *OTHER_NAMES]):
            close = OTHER_NAMES.get(close, close)
            what = f"{error.message.rstrip('.')}. Did you mean '{close}'?"
            return UsageError(what, why, f"{context.command_path} {close} --help")
    return UsageError(
        error.format_message().rstrip(".") + _suggest_choice(error), why, f"{context.command_path} --help"
    )


def _suggest_choice(error: click.ClickException) -> str:
    """Return a question that names the choice nearest to a wrong one; empty if there is none."""
    param = error.param if isinstance(error, click.BadParameter) else None
    if param is None or not isinstance(param.type, click.Choice):
        return ""
    given = error.message.partition("' is not one of")[0].removeprefix("'")
    return suggest(given, [str(choice) for choice in param.type.choices])


def _print_error(error: EdgewrightError, *, debug: bool) -> int:
    """Print an error to stderr (what, why if it is known, try this), and return its exit code."""
    if debug:
        traceback.print_exception(error, file=sys.stderr)
    print_message(_label("Error:", error.what))
    if error.why.strip():
        print_message(f"  {_label('Why:', _indent_lines(error.why))}")
    print_message(f"  {_label('Try:', _indent_lines(error.try_this))}")
    return error.exit_code


def _label(label: str, text: str) -> str:
    return f"{localize(label)} {localize(text)}".replace("： ", "：", 1)


def _indent_lines(text: str) -> str:
    return text.strip().replace("\n", "\n       ")


def _find_access_error(error: Exception) -> EdgewrightError | None:
    """Return the error for a file that may not be accessed if that caused the given error."""
    if not isinstance(error, PermissionError) or error.filename is None:
        return None
    hint = "check the permissions of the file and its folders, and the variable HOME"
    return EdgewrightError(f"{error.filename} cannot be used", error.strerror or str(error), hint)


def _print_unexpected(error: Exception, *, debug: bool) -> int:
    """Print an unexpected exception as an EdgewrightError, and return its exit code."""
    hint = "run the command again with --debug, and report the error with that output"
    own = (
        find_full_disk_error(error)
        or _find_access_error(error)
        or EdgewrightError("Edgewright failed with an internal error", f"{type(error).__name__}: {error}", hint)
    )
    if debug:
        traceback.print_exception(error, file=sys.stderr)
    return _print_error(own, debug=False)
