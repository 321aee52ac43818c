"""Pages in Chinese: chosen by the browser or a cookie, complete, with the JSON untouched."""

import re
from collections import defaultdict
from html import unescape

from edgewright.locale.catalog import find_translation
from edgewright.report import outcome
from scripts.translations import list_missing
from tests.web.conftest import Pages
from tests.web.records import Record, make_evaluation, make_model, make_run

CHINESE = {"accept_language": "zh-CN,zh;q=0.9,en;q=0.8"}
# Names and units, which stay.
STAYS = re.compile(
    r"\b(onnx|fp32|int8|w8a8|p50|p90|p99|SQNR|argmax|MACs|GMAC|CPU|GPU|CSV|JSON|ONNX Runtime)\b"
    r"|Pretend \(a runtime for tests\)",
    re.IGNORECASE,
)


def list_english(page: str) -> list[str]:
    """Return the texts of <main> with two English words in a row, and tooltips and labels with them."""
    main = page[page.index("<main") : page.index("</main>")]
    main = re.sub(r"<(code|kbd|textarea|time)\b.*?</\1>", " ", main, flags=re.DOTALL)
    texts = re.findall(r">([^<]+)<", main) + re.findall(r' (?:title|aria-label|placeholder)="([^"]*)"', main)
    plain = (STAYS.sub("", unescape(text)) for text in texts)
    return [text.strip() for text in plain if re.search(r"[A-Za-z]{2,} [a-z]{2,}", text)]


def test_the_page_of_a_model_is_chinese(pages: Pages, record: Record) -> None:
    model = record.first.model
    assert model is not None
    pages.store.record([make_evaluation(model, "pretend", 0.9)])
    answer = pages.get(f"/models/{model.sha256}", **CHINESE)
    assert '<html lang="zh-CN">' in answer.text
    assert list_english(answer.text) == []
    assert '<p class="answer">建议发布 LiteRT w8a8：500 µs' in answer.text
    assert "运行时与精度" in answer.text
    plain = pages.get(f"/models/{model.sha256}")
    assert '<html lang="en">' in plain.text
    assert '<p class="answer">Ship LiteRT w8a8: 500 µs' in plain.text


def test_json_stays_english(pages: Pages, record: Record) -> None:
    assert record.first.model is not None
    path = f"/models/{record.first.model.sha256}.json"
    assert pages.get(path, **CHINESE).body == pages.get(path).body


def test_the_language_is_chosen_without_a_script(pages: Pages, record: Record) -> None:
    def choose(language: str, back: str) -> dict[str, str]:
        return pages.post("/language", [("language", language), ("back", back)]).headers

    chosen = choose("zh-CN", "/models?device=x")
    assert chosen["location"] == "/models?device=x"
    cookie = chosen["set-cookie"].partition(";")[0]
    assert '<html lang="zh-CN">' in pages.get("/models", cookie=cookie).text
    english = choose("en", "/models")["set-cookie"].partition(";")[0]
    assert '<html lang="en">' in pages.get("/models", cookie=english, **CHINESE).text
    for elsewhere in ("//example.org", "/\\example.org", "https://example.org", ""):
        assert choose("en", elsewhere)["location"] == "/"
    assert "edgewright-language=" in choose("xx", "/")["set-cookie"]
    assert '<html lang="en">' in pages.get("/models", cookie="edgewright-language=xx").text


def test_names_of_the_user_stay(pages: Pages) -> None:
    model = make_model("median latency.onnx")
    pages.store.record([make_run(model=model)])
    assert "median latency.onnx" in pages.get(f"/models/{model.sha256}", **CHINESE).text


def test_no_text_of_a_template_lacks_its_translation() -> None:
    assert list_missing("zh-CN") == []


def test_phrases_of_an_answer_are_chinese() -> None:
    """Each template of `report.outcome` is in the catalog, whatever its values."""
    templates = [
        *(outcome.QUALITY, outcome.QUALITY_INTERVAL, outcome.SMALLER, outcome.LARGER, outcome.SAME_SIZE),
        *(outcome.UNPAIRED, *outcome.VERDICTS.values(), *outcome.SPEEDS.values()),
    ]
    for template in templates:
        english = template.format_map(defaultdict(lambda: "7")).replace("7 7 7", "7 points 7")
        assert not re.search(r"[A-Za-z]{2,} [a-z]{2,}", find_translation(english, "zh-CN")), english


def test_an_error_is_chinese(pages: Pages) -> None:
    answer = pages.get("/models/none", **CHINESE)
    assert answer.status == 404
    assert list_english(answer.text) == []
    assert "没有 ID 为 none 的模型" in answer.text
