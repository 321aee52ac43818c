"""Calls of the API by the commands: options as keywords, and results that come with an error."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from edgewright.cli.registry import list_options
from edgewright.cli.rendering.output import show_progress
from edgewright.errors import EdgewrightError

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgewright.api.results.base import Result

    ResultT = TypeVar("ResultT", bound=Result)

# Options that say what is printed.
OUTPUT_OPTIONS = ("json", "dry_run", "html")


def make_keywords(given: dict[str, Any]) -> dict[str, Any]:
    """Return the options that the user set, or the command changed, as keywords of the API, which has the defaults."""
    context, keywords = click.get_current_context(), {}
    for key, option in list_options(context.command).items():
        name = str(option.name)
        is_default = context.get_parameter_source(name) is ParameterSource.DEFAULT
        if key not in OUTPUT_OPTIONS and not (is_default and given[name] == context.params[name]):
            keywords[key] = given[name]
    return keywords


def read_given(given: dict[str, Any]) -> dict[str, Any]:
    """Return the options of the running command as plans have them."""
    from edgewright.api.options import read_options

    return read_options(make_keywords(given))


def call_api(function: Callable[..., ResultT], *models: Any, **keywords: Any) -> tuple[ResultT, EdgewrightError | None]:
    """Call a function with progress on the terminal; return its result, and the error of one that failed at the end."""
    with show_progress() as progress:
        try:
            return function(*models, **keywords, progress=progress), None
        except EdgewrightError as error:
            if error.result is None:
                raise
            return error.result, error
