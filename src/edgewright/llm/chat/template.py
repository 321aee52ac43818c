"""The prompt of a conversation, by the model's own chat template or a plain one."""

from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from edgewright.errors import InputError

ROLES = ("system", "user", "assistant")
MAX_TEMPLATE = 100_000


def render_prompt(messages: Sequence[Mapping[str, str]], template: str = "") -> str:
    """Return the text that the model continues.

    Args:
        messages: each with `role` (system, user, assistant) and `content`.
        template: Jinja text of the model's files; without one, the contents follow each other, one per line.

    Raises InputError for a message or template that cannot be used. The template runs in a sandbox without access to
    Python's objects.
    """
    _check(messages)
    if not template:
        return "\n".join(one["content"] for one in messages)
    try:
        text: str = (
            _make_environment()
            .from_string(template[:MAX_TEMPLATE])
            .render(messages=list(messages), add_generation_prompt=True)
        )
    except (TemplateError, TypeError, ValueError, KeyError, AttributeError, ArithmeticError, RecursionError) as error:
        what = "the model's chat template cannot be used for these messages"
        raise InputError(what, str(error) or type(error).__name__, "send other roles, or a plain prompt") from None
    return text


def _check(messages: Sequence[Mapping[str, str]]) -> None:
    if not messages:
        raise InputError("there are no messages", "the list is empty", 'send [{"role": "user", "content": "Hello"}]')
    for one in messages:
        if one["role"] not in ROLES:
            raise InputError(f"unknown role '{one['role'][:50]}'", f"roles are {', '.join(ROLES)}", "send one of them")


def _make_environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.globals = {name: environment.globals[name] for name in ("range", "namespace")}
    environment.globals["raise_exception"] = _raise_exception
    return environment


def _raise_exception(text: Any) -> None:
    """Templates call this for messages that they do not take."""
    raise TemplateError(str(text))
