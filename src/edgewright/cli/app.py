"""The `edgewright` command: finds its commands lazily, reads the config, and turns failures into three lines."""

import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import click

from edgewright import __version__
from edgewright.cli.commands import COMMANDS, find_command, normal
from edgewright.cli.interrupts import came, stop_code, stop_name
from edgewright.cli.output import say
from edgewright.cli.parse import check_utf8
from edgewright.cli.streams import readers_may_leave
from edgewright.errors import Cancelled, EdgewrightError, GateFailed, UsageError, full_disk

DEBUG = "EDGEWRIGHT_DEBUG"


class LazyGroup(click.Group):
    """Imports a command's file only when that command is meant; lists them in the order of use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return find_command(cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """With the command's own name in place of an alias, so that config tables and help speak of one name."""
        _, command, rest = super().resolve_command(ctx, args)
        return command.name if command else None, command, rest


@click.group(
    cls=LazyGroup,
    context_settings={
        "token_normalize_func": normal,
        "help_option_names": ["-h", "--help"],
        "max_content_width": 100,
    },
    epilog="Exit codes: 0 done, 1 failed, 2 usage, 3 a gate failed, 4 device unreachable, 5 runtime not installed, "
    "6 model not supported, 124 timeout, 130 interrupted (143 by SIGTERM, 129 by SIGHUP).",
)
@click.version_option(__version__, prog_name="edgewright")
@click.option("--debug", is_flag=True, envvar=DEBUG, help="Show the traceback of an error.")
@click.pass_context
def edgewright(ctx: click.Context, debug: bool) -> None:
    """Take a trained model to phones and edge devices, and measure what it does there."""
    from edgewright.cli.config import command_defaults, load_config
    from edgewright.cli.project_file import FILE_NAME

    config = load_config(os.environ)
    ctx.default_map = command_defaults(config)
    ctx.meta[FILE_NAME] = config.project


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code."""
    debug = "--debug" in arguments or os.environ.get(DEBUG, "0") not in ("", "0", "off", "no", "false")
    arguments = [argument for argument in arguments if argument != "--debug"]  # it may stand anywhere
    with readers_may_leave():
        return run_plainly(arguments, debug=debug)


def run_plainly(arguments: list[str], *, debug: bool) -> int:
    try:
        check_words(arguments, os.environ)
        result = edgewright.main(arguments, prog_name="edgewright", standalone_mode=False)
    except Cancelled as error:
        told = Cancelled(error.what.replace("Ctrl-C", stop_name()), error.why, error.try_this)
        tell_error(told.with_traceback(error.__traceback__), debug=debug)
        return stop_code()
    except EdgewrightError as error:
        return tell_error(with_cause(error), debug=debug)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return error.exit_code
    except click.ClickException as error:
        return tell_error(translate(error), debug=debug)
    except (KeyboardInterrupt, click.Abort):
        return tell_stop()
    except Exception as error:
        if came():  # it struck inside a library that made another exception of it
            return tell_stop()
        return tell_unexpected(error, debug=debug)
    return result if isinstance(result, int) else 0


def check_words(arguments: Sequence[str], environ: Mapping[str, str]) -> None:
    """UsageError for an argument, a variable of ours or a current folder that is not UTF-8."""
    for number, word in enumerate(arguments, 1):
        check_utf8(f"the argument {number}", word)
    for name, value in environ.items():
        if name.startswith("EDGEWRIGHT_"):
            check_utf8(name, value)
    with suppress(OSError):  # a current folder that was deleted
        check_utf8("the current folder", str(Path.cwd()))


def with_cause(error: EdgewrightError) -> EdgewrightError:
    """Return the error of a full disk where that has caused this one. What a gate says was measured."""
    from edgewright.system.disk import blame_full_disk

    return error if isinstance(error, GateFailed) else blame_full_disk(error)


def tell_stop() -> int:
    say(f"Stopped by {stop_name()}.")
    return stop_code()


def translate(error: click.ClickException) -> UsageError:
    """Click's complaint about the command line in our three lines."""
    context = error.ctx if isinstance(error, click.UsageError) else None
    if context is None:
        return UsageError(error.format_message())
    why = " ".join(context.get_usage().split()).replace("Usage:", "the usage is", 1)
    if isinstance(context.command, click.Group):
        why = f"known: {', '.join(context.command.list_commands(context))}"
    return UsageError(error.format_message().rstrip("."), why, f"{context.command_path} --help")


def tell_error(error: EdgewrightError, *, debug: bool) -> int:
    """Three lines on stderr: what, why, try this."""
    if debug:
        traceback.print_exception(error, file=sys.stderr)
    say(f"Error: {error.what}")
    say(f"  Why: {indented(error.why) or 'no more is known'}")
    say(f"  Try: {indented(error.try_this)}")
    return error.exit_code


def indented(text: str) -> str:
    return text.strip().replace("\n", "\n       ")


def tell_unexpected(error: Exception, *, debug: bool) -> int:
    """A failure of our own, in the same three lines."""
    hint = "report it with the output of the same command and --debug"
    own = full_disk(error) or EdgewrightError(
        "something went wrong inside Edgewright", f"{type(error).__name__}: {error}", hint
    )
    if debug:
        traceback.print_exception(error, file=sys.stderr)
    return tell_error(own, debug=False)
