"""The manual page, in the language of `man`, from the same texts as `--help`."""

from collections.abc import Iterator

import click

from edgewright import __version__
from edgewright.cli.help.pages import find_examples, group_options


def make_manual(root: click.Group) -> str:
    """Return the manual page of the whole program as roff."""
    context = click.Context(root, info_name="edgewright")
    lines = [
        f'.TH EDGEWRIGHT 1 "" "edgewright {__version__}"',
        ".SH NAME",
        f"edgewright \\- {_escape(root.get_short_help_str(200).rstrip('.'))}",
        ".SH SYNOPSIS",
        ".B edgewright",
        "[\\-\\-debug] COMMAND [OPTIONS] [ARGUMENTS]",
        ".SH COMMANDS",
        *_describe_commands(root, context),
        ".SH EXIT STATUS",
        _escape(root.epilog or ""),
    ]
    return "\n".join(lines) + "\n"


def _describe_commands(group: click.Group, context: click.Context) -> Iterator[str]:
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is None:
            continue
        inner = click.Context(command, info_name=name, parent=context)
        if isinstance(command, click.Group):
            yield from _describe_commands(command, inner)
        else:
            yield from _describe_command(command, inner)


def _describe_command(command: click.Command, context: click.Context) -> Iterator[str]:
    words = " ".join(command.collect_usage_pieces(context))
    yield f'.SS "{_escape(f"{context.command_path} {words}")}"'
    for paragraph in (command.help or "").split("\n\n"):
        yield ".PP"
        yield _escape(" ".join(paragraph.split()))
    for title, options in group_options(command).items():
        records = [record for option in options if (record := option.get_help_record(context)) is not None]
        if records and title != "Options":
            yield from (".PP", f".I {title}")
        for names, text in records:
            yield from (".TP", f".B {_escape(names)}", _escape(text))
    if examples := find_examples(context.command_path):
        yield from (".PP", ".I Examples", ".PP", ".nf", *map(_escape, examples), ".fi")


def _escape(text: str) -> str:
    """Return text of one line that roff shows as it is."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace('"', "\\(dq")
    text = "".join(one if one.isascii() else f"\\[u{ord(one):04X}]" for one in text)
    return f"\\&{text}" if text.startswith((".", "'")) else text
