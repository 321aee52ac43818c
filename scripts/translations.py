"""List the texts of the pages' templates that a catalog lacks: `python scripts/translations.py`."""

import sys
from collections.abc import Sequence

from edgewright.locale.catalog import load_catalog
from edgewright.locale.language import ENGLISH, LANGUAGES
from edgewright.web.server.responses import load_templates
from edgewright.web.server.translation import TemplateTranslator


def list_template_texts(source: str) -> list[str]:
    """Return the texts of a template."""
    translator = TemplateTranslator(lambda text: text)
    list(translator.translate(load_templates()._tokenize(source, None)))
    return [text for text in translator.texts if '="' not in text]  # attributes that a block adds to a tag


def list_missing(language: str) -> list[str]:
    """Return `TEMPLATE: TEXT` for each text without a translation."""
    environment, known = load_templates(), load_catalog(language).texts
    return [
        f"{name}: {text}"
        for name in environment.list_templates(["html"])
        for text in list_template_texts(_read_template(name))
        if text not in known
    ]


def _read_template(name: str) -> str:
    environment = load_templates()
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]


def main(arguments: Sequence[str]) -> int:
    missing = [line for language in arguments or LANGUAGES if language != ENGLISH for line in list_missing(language)]
    print("\n".join(missing))
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
