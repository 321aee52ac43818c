"""One reply of a language model: from messages to pieces of text."""

from collections.abc import Callable, Mapping, Sequence

from edgewright.errors import InputError
from edgewright.llm.chat.template import render_prompt
from edgewright.llm.chat.text import TextStream
from edgewright.llm.engines.wire import Generate, Generation
from edgewright.llm.tokenizer import Tokenizer
from edgewright.schema.chat import ChatOptions, ChatOutcome

EngineGenerate = Callable[[Generate, Callable[[int], bool]], Generation]


class Speaker:
    """A model that replies.

    Args:
        generate: an engine's; its callback returns whether it is to go on.
        context: longest sequence in tokens.
    """

    def __init__(self, tokenizer: Tokenizer, template: str, context: int, generate: EngineGenerate) -> None:
        self._tokenizer, self._template, self._generate = tokenizer, template, generate
        self.context = context

    def reply(
        self,
        messages: Sequence[Mapping[str, str]],
        options: ChatOptions,
        emit: Callable[[str], object],
        is_cancelled: Callable[[], bool],
    ) -> ChatOutcome:
        """Generate the reply to messages, and pass on its pieces as they come.

        Raises InputError for messages that cannot be used, or that are too long for the model's context.
        """
        tokens = self.read_prompt(messages)
        if is_cancelled():
            return ChatOutcome(prompt_tokens=len(tokens), completion_tokens=0, finish="stop")
        stream, room = TextStream(self._tokenizer.decode, options.stops), self.context - len(tokens)

        def take(token: int) -> bool:
            if token in self._tokenizer.eos:
                return False
            if text := stream.add(token):
                emit(text)
            return not (stream.is_stopped or is_cancelled())

        request = Generate(
            tokens=tuple(tokens),
            count=min(options.max_tokens or room, room),
            stop=self._tokenizer.eos,
            temperature=options.temperature,
            seed=options.seed,
            reuse=True,
        )
        found = self._generate(request, take)
        if rest := stream.finish():
            emit(rest)
        is_complete = found.end in ("count", "context") and not stream.is_stopped
        return ChatOutcome(
            prompt_tokens=len(tokens),
            completion_tokens=len(found.tokens),
            finish="length" if is_complete else "stop",
        )

    def read_prompt(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        """Return the tokens of the messages in the model's template. Raises InputError."""
        tokens = self._encode(messages)
        if not tokens:
            raise InputError("the prompt is empty", "the model has no token that begins a text", "send some text")
        if len(tokens) >= self.context:
            why = f"it has {len(tokens)} tokens, and the model's context has {self.context}"
            raise InputError("the prompt is too long", why, "send less text")
        return tokens

    def drop_oldest(self, messages: Sequence[Mapping[str, str]]) -> Sequence[Mapping[str, str]]:
        """Return the newest messages, in pairs, that leave half of the context for the reply; at least the last one."""
        while len(messages) > 2 and len(self._encode(messages)) > self.context // 2:
            messages = messages[2:]
        return messages

    def _encode(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        try:
            return self._tokenizer.encode(render_prompt(messages, self._template))
        except UnicodeEncodeError as error:
            raise InputError("the prompt is not valid text", str(error), "send UTF-8") from None
