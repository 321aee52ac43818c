"""Commands whose help has options in sections, and examples."""

import click

from edgewright.cli.help.sections import EXAMPLES, MIN_OPTIONS, SECTION_OF, SECTIONS
from edgewright.cli.registry import list_options

MAX_SENTENCE = 200  # characters of the first sentence of a command's help


class HelpedCommand(click.Command):
    """A command whose help has sections of options, and examples."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, options in group_options(self).items():
            rows = [row for option in options if (row := option.get_help_record(ctx)) is not None]
            if title == "Options" and (own := self.get_help_option(ctx)) is not None:
                rows.append(own.get_help_record(ctx) or ("", ""))
            with formatter.section(title):
                formatter.write_dl(rows)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        _write_examples(ctx.command_path, formatter)
        super().format_epilog(ctx, formatter)


class HelpedGroup(click.Group):
    """A group whose help has the whole first sentence of each command, and examples."""

    command_class = HelpedCommand

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        found = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        rows = [(name, command.get_short_help_str(MAX_SENTENCE)) for name, command in found if command is not None]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        _write_examples(ctx.command_path, formatter)
        super().format_epilog(ctx, formatter)


def group_options(command: click.Command) -> dict[str, list[click.Option]]:
    """Return the options by section, in order; those without one first, under `Options`, which always exists."""
    options = list_options(command)
    found: dict[str, list[click.Option]] = {title: [] for title in ("Options", *SECTIONS)}
    for key, option in options.items():
        found[SECTION_OF.get(key, "Options") if len(options) >= MIN_OPTIONS else "Options"].append(option)
    return {title: rows for title, rows in found.items() if rows or title == "Options"}


def find_examples(path: str) -> tuple[str, ...]:
    """Return the examples of a command by its path, such as `edgewright runs list`."""
    return EXAMPLES.get(path.removeprefix("edgewright "), ())


def _write_examples(path: str, formatter: click.HelpFormatter) -> None:
    """Write the examples of a command, each on one line of its own so that it can be copied."""
    if examples := find_examples(path):
        with formatter.section("Examples"):
            for example in examples:
                formatter.write(f"{'':>{formatter.current_indent}}{example}\n")
