"""The catalog: texts with values, and what is divided."""

import pytest

from edgewright.locale import catalog
from edgewright.locale.catalog import find_translation, load_catalog, read_entries
from edgewright.locale.language import (
    choose_language,
    find_language,
    read_terminal_language,
    translate,
    use_language,
)


def test_entries_of_a_file() -> None:
    lines = ['msgid ""', 'msgstr "Language: x\\n"', "", "# a note", 'msgid "a "', '"\\"b\\""', 'msgstr "c"']
    assert list(read_entries(lines)) == [("", "Language: x\n"), ('a "b"', "c")]


@pytest.mark.parametrize(
    ("english", "chinese"),
    [
        ("3 runs", "3 次运行"),
        ("failed", "失败"),
        ("Ship LiteRT w8a8: 9.86 µs, 99.1% top-1 accuracy (no loss shown), 49.5 kB.",
         "建议发布 LiteRT w8a8：9.86 µs，top-1 准确率 99.1%（未见下降），49.5 kB。"),
        ("Ship a: 1 ms (only 2 processes; the machine was busy), quality not evaluated, 1 kB. b is 2× slower.",
         "建议发布 a：1 ms（仅 2 个进程；机器繁忙），未评估质量，1 kB。b 慢 2×。"),
        ("a in b takes 1 ms on local.", "local 上 b 中的 a 耗时 1 ms。"),
        ("only 3 processes; something new", "仅 3 个进程；something new"),
        ("a, b; c", "a, b; c"),
        ("the file is in another folder", "the file is in another folder"),
        ("a benchmark requires at least one model", "a benchmark requires at least one model"),
        ("." * 3_000, "." * 3_000),
        ("", ""),
        ("x" * 5_000, "x" * 5_000),
    ],
)  # fmt: skip
def test_finished_texts(english: str, chinese: str) -> None:
    assert find_translation(english, "zh-CN") == chinese


def test_long_texts_take_linear_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pattern is compared as often as it has pieces, whatever a name from an imported run contains."""
    find_translation.cache_clear()
    calls = 0

    def count(pattern: catalog.Pattern, text: str) -> None:
        nonlocal calls
        calls += 1

    monkeypatch.setattr(catalog, "_match", count)
    find_translation("Ship " * 700 + "unique", "zh-CN")
    assert calls <= 2 * len(load_catalog("zh-CN").patterns)


def test_placeholders_of_a_translation_are_in_its_text() -> None:
    for text, translation in load_catalog("zh-CN").texts.items():
        names = {found[1] for found in catalog.PLACEHOLDER.finditer(text)}
        assert {found[1] for found in catalog.PLACEHOLDER.finditer(translation)} <= names, text


def test_the_current_language() -> None:
    assert translate("failed") == "failed"
    with use_language("zh-CN"):
        assert translate("failed") == "失败"
    assert translate("failed") == "failed"


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("", "en"), ("zh-CN", "zh-CN"), ("zh", "zh-CN"), ("zh-Hans-SG,en;q=0.5", "zh-CN"), ("zh-TW,zh;q=0.5", "zh-CN"),
        ("en-US,en;q=0.9,zh-CN;q=0.8", "en"), ("fr,zh-CN;q=0.1", "zh-CN"), ("zh-CN;q=0", "en"), ("zh;q=nan,;;,q", "en"),
        ("*", "en"), ("zh-TW", "en"),
    ],
)  # fmt: skip
def test_accept_language(header: str, language: str) -> None:
    assert choose_language(header) == language


def test_language_of_a_terminal() -> None:
    assert find_language("zh_CN.UTF-8") == "zh-CN"
    assert read_terminal_language({}) == "en"
    assert read_terminal_language({"LANG": "zh_CN.UTF-8"}) == "zh-CN"
    assert read_terminal_language({"LANG": "zh_CN.UTF-8", "LC_ALL": "C"}) == "en"
    assert read_terminal_language({"LANG": "de_DE", "EDGEWRIGHT_LANGUAGE": "zh-CN"}) == "zh-CN"
    assert read_terminal_language({"LANG": "zh_CN.UTF-8", "EDGEWRIGHT_LANGUAGE": "fr"}) == "en"
