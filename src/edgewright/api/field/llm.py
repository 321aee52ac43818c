"""Language models: what `edgewright llm` calls."""

from typing import Any

from msgspec.structs import replace

from edgewright.api.calls import ApiCall
from edgewright.flows.llm.compile import LanguageCompileReport, LanguageCompileRequest, compile_language_model
from edgewright.runtimes.environments import FOLDER
from edgewright.store.location import find_home


def compile_for_engines(request: LanguageCompileRequest, **call: Any) -> LanguageCompileReport:
    """Compile a language model; see `flows.llm.compile.compile_language_model`.

    Args:
        **call: `progress` and `cancel`, as for `benchmark`.
    """
    with ApiCall(call) as running:
        return compile_language_model(replace(request, environments=find_home() / FOLDER), running.progress)
