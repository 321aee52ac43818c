"""`edgewright llm chat`."""

from __future__ import annotations

import click

from edgewright.cli.help.pages import HelpedCommand
from edgewright.cli.parse import PATH
from edgewright.cli.rendering.output import print_message


@click.command(cls=HelpedCommand)
@click.argument("model", type=PATH, metavar="ARTIFACT")
@click.option("--system", default="", metavar="TEXT", help="Instruction before the conversation.")
@click.option("--prompt", default="", metavar="TEXT", help="One message, instead of a conversation.")
@click.option("--max-tokens", type=click.IntRange(min=1), help="Most tokens of a reply; default: the context.")
@click.option("--kv-precision", default="fp16", metavar="KV", help="Format of the keys and values; default: fp16.")
@click.option("--threads", type=click.IntRange(min=1), default=1, help="Threads of the engine; default: 1.")
def chat(model: str, system: str, prompt: str, max_tokens: int | None, kv_precision: str, threads: int) -> None:
    """Talk to a language model in the terminal.

    The reply is shown as it is generated, then its speed and the memory of the engine. Ctrl-C ends a reply, a second
    one or an empty message the conversation.
    """
    import sys

    from edgewright.flows.llm.chat import ChatSession, open_chat
    from edgewright.schema.chat import ChatOptions

    def say(text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()

    def answer(session: ChatSession, message: str) -> None:
        facts = session.say(message, ChatOptions(max_tokens=max_tokens), say)
        say("\n")
        print_message(facts.describe())

    with open_chat(model, system, kv_precision, threads) as session:
        if prompt:
            answer(session, prompt)
            return
        while message := _ask():
            answer(session, message)


def _ask() -> str:
    """Return the user's next message; empty at the end of the input."""
    try:
        return input("> ").strip()
    except (EOFError, KeyboardInterrupt):
        return ""
