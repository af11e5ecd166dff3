"""From what a service wrote to what Telegram takes."""

from __future__ import annotations

import html
import sys
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from core.model.errors import Invalid
from core.model.message import Format
from core.model.part import FormattedText
from infra.sandbox.answers import MethodFailed
from infra.sandbox.markup import parse
from infra.telegram.formatting.formatter import TelegramFormatter
from infra.telegram.formatting.split import LONGEST_TEXT, MOST_ENTITIES

FORMAT = TelegramFormatter().format

# What Telegram's own trimming takes away, and what no message can hold.
BLANK = "".join(map(chr, range(33))) + "\u2028\u2029\u202a\u202b\u202c\u202d\u202e"
# What shows nothing when nothing else is there.
SPACES = "".join(mark for mark in map(chr, range(sys.maxunicode + 1)) if mark.isspace())
UNSEEN = BLANK + SPACES
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"))
SPACE_PIECES = ("\u00a0", "\u3000" * 500, "\u2003\n", "\u202a\u00a0", "\u200b")
PIECES = st.sampled_from(
    [
        "word ",
        "Sentence. ",
        "\n",
        "\n\n",
        "👩‍👩‍👧‍👦",
        "🇩🇪",
        "é",
        "e\u0301",
        "👍🏽",
        "x" * 700,
        "한국",
        " ",
        *SPACE_PIECES,
    ]
)
LONG_TEXT = st.lists(PIECES, max_size=60).map("".join).map(lambda text: text * 12)


def marked(part: FormattedText) -> list[tuple[str, str]]:
    """Each piece of formatting with the text it falls on, cut by UTF-16 offsets as Telegram does."""
    raw = part.text.encode("utf-16-le")
    return [
        (entity.type, raw[2 * entity.offset : 2 * (entity.offset + entity.length)].decode("utf-16-le"))
        for entity in part.entities
    ]


def one(text: str, markup: Format) -> FormattedText:
    (part,) = FORMAT(text, markup)
    return part


def refused(text: str, markup: Format = Format.HTML) -> str:
    with pytest.raises(Invalid) as caught:
        FORMAT(text, markup)
    (problem,) = caught.value.problems
    assert problem.pointer == "/text"
    return problem.detail


def read_or_refused(text: str, markup: Format) -> tuple[FormattedText, ...]:
    try:
        return FORMAT(text, markup)
    except Invalid:
        return ()


# Plain text


def test_plain_text_is_sent_as_it_is_whatever_signs_are_in_it() -> None:
    assert one("<b>*x*</b> & `y`", Format.PLAIN) == FormattedText("<b>*x*</b> & `y`")


@given(TEXT)
def test_no_plain_text_ever_makes_formatting(text: str) -> None:
    if text.strip(UNSEEN):
        assert not [part for part in FORMAT(text, Format.PLAIN) if part.entities]


@pytest.mark.parametrize("markup", list(Format))
@pytest.mark.parametrize("text", ["", " \n\t", "\u2028", "\x01\x02"])
def test_a_text_with_nothing_to_show_is_refused(text: str, markup: Format) -> None:
    assert "nothing to show" in refused(text, markup)


@pytest.mark.parametrize("text", ["**\u200b**", "<b> </b>", "&#32;"])
def test_a_text_that_is_empty_after_its_markup_is_refused(text: str) -> None:
    if text.startswith("*"):
        assert one(text, Format.MARKDOWN)  # a zero-width space is a character to Telegram
    else:
        assert "nothing to show" in refused(text)


@pytest.mark.parametrize(
    ("text", "markup"),
    [
        ("\u00a0", Format.PLAIN),
        ("\u3000\n\u2003 \u202a\u00a0", Format.PLAIN),
        ("\u00a0" * 9000, Format.PLAIN),
        ("&#160;", Format.HTML),
        ("<b>&#160;</b>", Format.HTML),
        ("<pre>&#160;</pre>", Format.HTML),
        ("&nbsp;", Format.MARKDOWN),
        ("# &nbsp;", Format.MARKDOWN),
    ],
)
@pytest.mark.parametrize("reserve", [0, 400])
def test_a_text_of_unicode_s_spaces_is_refused(text: str, markup: Format, reserve: int) -> None:
    with pytest.raises(Invalid, match="does not validate") as caught:
        FORMAT(text, markup, reserve=reserve)
    assert [problem.pointer for problem in caught.value.problems] == ["/text"]


@pytest.mark.parametrize("markup", [Format.PLAIN, Format.HTML])
def test_unicode_s_spaces_around_a_text_stay(markup: Format) -> None:
    assert one("\u00a0x\u3000y\u2003", markup).text == "\u00a0x\u3000y\u2003"


def test_whatever_alone_is_nothing_to_the_sandbox_is_refused_before() -> None:
    last_space = ord(max(SPACES))
    for mark in map(chr, range(1, last_space + 1)):
        try:
            parse(mark, "")
        except MethodFailed:
            assert "nothing to show" in refused(mark, Format.PLAIN), hex(ord(mark))


@pytest.mark.parametrize("mark", ["\u200b", "\u2060", "\ufeff", "\u2800"])
def test_what_telegram_may_show_is_not_refused(mark: str) -> None:
    assert one(mark, Format.PLAIN).text == mark


@pytest.mark.parametrize(("text", "place"), [("ab\0", "Character 3"), ("\ud800", "Character 1")])
@pytest.mark.parametrize("markup", list(Format))
def test_characters_that_no_message_can_hold_are_refused(text: str, place: str, markup: Format) -> None:
    assert refused(text, markup).startswith(place)


# HTML


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("<b>x</b>", "bold"),
        ("<STRONG>x</STRONG>", "bold"),
        ("<i>x</i>", "italic"),
        ("<em>x</em>", "italic"),
        ("<u>x</u>", "underline"),
        ("<ins>x</ins>", "underline"),
        ("<s>x</s>", "strikethrough"),
        ("<strike>x</strike>", "strikethrough"),
        ("<del>x</del>", "strikethrough"),
        ("<tg-spoiler>x</tg-spoiler>", "spoiler"),
        ('<span class="tg-spoiler">x</span>', "spoiler"),
        ("<code>x</code>", "code"),
        ("<pre>x</pre>", "pre"),
        ("<blockquote>x</blockquote>", "blockquote"),
        ("<blockquote expandable>x</blockquote>", "expandable_blockquote"),
        ("<a href='https://e.org'>x</a>", "text_link"),
        ('<a href="tg://user?id=815">x</a>', "text_mention"),
        ('<a href="e.org/path">x</a>', "text_link"),
        ('<tg-emoji emoji-id="5368324170671202286">x</tg-emoji>', "custom_emoji"),
    ],
)
def test_each_tag_makes_its_formatting(text: str, kind: str) -> None:
    assert marked(one(f"👍 {text} y", Format.HTML)) == [(kind, "x")]


def test_tags_nest_and_offsets_count_utf_16_units() -> None:
    part = one("😀 <b>a <i>b 😀</i></b> <u>c</u>", Format.HTML)
    assert marked(part) == [("bold", "a b 😀"), ("italic", "b 😀"), ("underline", "c")]


def test_links_and_languages_are_kept() -> None:
    link = one('<a href="https://e.org/?a=1&amp;b=2">x</a>', Format.HTML).entities[0]
    code = one('<pre><code class="language-python">  x = 1\n</code></pre>', Format.HTML)
    assert link.url == "https://e.org/?a=1&b=2"
    assert (code.text, code.entities[0].language, len(code.entities)) == ("  x = 1", "python", 1)


def test_a_class_on_code_outside_a_block_means_nothing() -> None:
    assert one('<code class="language-x">a</code>', Format.HTML).entities[0].language is None


def test_formatting_that_telegram_does_not_nest_is_left_out() -> None:
    assert marked(one("<code>a<b>b</b></code>", Format.HTML)) == [("code", "ab")]
    assert marked(one("<b>a<b>b</b></b>", Format.HTML)) == [("bold", "ab")]
    quotes = one("<blockquote>a<blockquote>b</blockquote></blockquote>", Format.HTML)
    assert marked(quotes) == [("blockquote", "ab")]


@pytest.mark.parametrize(
    ("text", "shown"),
    [("&lt;&gt;&amp;&quot;", '<>&"'), ("&#128512;&#x1F600;", "😀😀"), ("&nbsp; & &x &", "&nbsp; & &x &")],
)
def test_references_are_resolved_as_telegram_does(text: str, shown: str) -> None:
    assert one(text, Format.HTML).text == shown


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("a < b", "Line 1, column 3: there is a < that begins no tag"),
        ("a\n <font>x</font>", "Line 2, column 2: Telegram has no tag <font>"),
        ("x<br/>", "Line 1, column 2: Telegram has no tag <br>"),
        ("<b>x", "Line 1, column 1: the tag <b> is never closed"),
        ("x</b>", "Line 1, column 2: </b> closes nothing"),
        ("<b><i>x</b></i>", "Line 1, column 8: </b> comes where </i> must come"),
        ("<b", "Line 1, column 1: the tag <b is not complete"),
        ('<a href="x>y</a>', "Line 1, column 1: the tag <a is not complete"),
        ("<b>x</b", "Line 1, column 5: this closing tag is not complete"),
        ("<a>x</a>", "a link needs an address"),
        ('<a href="javascript:alert(1)">x</a>', "a link needs an address"),
        ("<span>x</span>", 'must be <span class="tg-spoiler">'),
        ("<tg-emoji>x</tg-emoji>", "must name an emoji"),
        ("<!-- x -->", "begins no tag"),
        ("&#0;", "&#0; names no character"),
        ("&#xD800;", "&#xD800; names no character"),
        ("&#x110000;", "names no character"),
    ],
)
def test_html_that_telegram_would_refuse_is_refused_with_its_place(text: str, complaint: str) -> None:
    assert complaint in refused(text)


@given(TEXT)
def test_escaped_text_comes_back_as_it_was_and_makes_no_formatting(text: str) -> None:
    if text.strip(UNSEEN):
        part = FORMAT(html.escape(text, quote=False), Format.HTML)
        assert part == FORMAT(text, Format.PLAIN)


@given(st.text(st.sampled_from("<>/ab&;#x\"'= \n"), max_size=60))
def test_any_html_is_either_read_or_refused(text: str) -> None:
    parts = read_or_refused(text, Format.HTML)
    for part in parts:
        check(part)


# Markdown


@pytest.mark.parametrize(
    ("text", "shown", "formatting"),
    [
        ("**x** and *y*", "x and y", [("bold", "x"), ("italic", "y")]),
        ("~~x~~", "x", [("strikethrough", "x")]),
        ("# Title\ntext", "Title\n\ntext", [("bold", "Title")]),
        ("`a <b>`", "a <b>", [("code", "a <b>")]),
        ("```python\nx = 1\n\ny = 2\n```", "x = 1\n\ny = 2", [("pre", "x = 1\n\ny = 2")]),
        ("[x](https://e.org)", "x", [("text_link", "x")]),
        ("![x](https://e.org/i.png)", "x", [("text_link", "x")]),
        ("![](https://e.org/i.png)", "https://e.org/i.png", [("text_link", "https://e.org/i.png")]),
        ("[Ada](tg://user?id=815)", "Ada", [("text_mention", "Ada")]),
        ("[x](/relative)", "x (/relative)", []),
        ("<ada@example.org>", "ada@example.org", []),
        ("one\n\n\ntwo\nthree  \nfour", "one\n\ntwo\nthree\nfour", []),
        ("- a\n- b\n  - c\n\n1) d", "• a\n• b\n  • c\n\n1. d", []),
        ("3. a\n4. b\n   more", "3. a\n4. b\n   more", []),
        ("- a\n\n- b", "• a\n\n• b", []),
        ("> a\n> > b", "a\n\nb", [("blockquote", "a\n\nb")]),
        ("a\n\n---\n\nb", "a\n\n———\n\nb", []),
        ("<script>x</script> &amp; <b>y</b>", "<script>x</script> & <b>y</b>", []),
        ("- a\n\n  ```\n  x\n  ```", "• a\n\nx", [("pre", "x")]),
        ("-\n- b", "•\n• b", []),
        (r"\*x\*", "*x*", []),
        ("**a\nb**", "a\nb", [("bold", "a\nb")]),
    ],
)
def test_markdown_becomes_text_and_formatting(
    text: str, shown: str, formatting: list[tuple[str, str]]
) -> None:
    part = one(text, Format.MARKDOWN)
    lines = "\n".join(line.rstrip() for line in part.text.split("\n"))
    assert (lines, marked(part)) == (shown, formatting)


def test_the_language_of_a_code_block_is_kept() -> None:
    assert one("```python title=x\na\n```", Format.MARKDOWN).entities[0].language == "python"


@given(st.text(st.sampled_from("*_`~[]()<>#-+1. \n\t>!\\ab&;:/|😀"), max_size=80))
def test_any_markdown_is_read(text: str) -> None:
    for part in read_or_refused(text, Format.MARKDOWN):
        check(part)


# Splitting


def check(part: FormattedText) -> None:
    """What Telegram demands of every message."""
    assert 1 <= len(part.text) <= LONGEST_TEXT
    assert part.text.strip(UNSEEN)
    assert len(part.entities) <= MOST_ENTITIES
    units = len(part.text.encode("utf-16-le")) // 2
    for entity in part.entities:
        assert entity.offset >= 0
        assert entity.length > 0
        assert entity.offset + entity.length <= units
    assert all(text for _, text in marked(part))


def without_blanks(text: str) -> str:
    return text.translate(dict.fromkeys(map(ord, UNSEEN)))


@given(LONG_TEXT, st.sampled_from([0, 200, 1500]))
@example("x" * 4096, 200)
@example("x" * 4097, 0)
@example("\u0301" * 9000, 0)
@example("x" * 4096 + "\u00a0" * 10, 200)
@example("x" * 4096 + "\n" + "\u00a0" * 4096, 0)
@example("x" * 4096 + "\u00a0" * 9000 + "y", 200)
def test_the_parts_are_the_text_and_the_last_one_leaves_room(text: str, reserve: int) -> None:
    if not text.strip(UNSEEN):
        return
    parts = FORMAT(text, Format.PLAIN, reserve=reserve)
    assert without_blanks("".join(part.text for part in parts)) == without_blanks(text)
    assert len(parts[-1].text) <= LONGEST_TEXT - reserve
    for part in parts:
        check(part)
        assert part.text == part.text.strip(BLANK)


@given(LONG_TEXT)
def test_no_part_begins_in_the_middle_of_what_a_reader_sees_as_one_character(text: str) -> None:
    if text.strip(UNSEEN):
        for part in FORMAT(text, Format.PLAIN):
            assert unicodedata.category(part.text[0]) not in {"Mn", "Mc", "Me"}
            assert part.text[0] not in "\u200d🏽"
            assert part.text[-1] != "\u200d"
            assert not set("🇩🇪") & set(part.text.replace("🇩🇪", ""))


@given(LONG_TEXT, st.sampled_from(["b", "code", "blockquote", "pre"]))
def test_formatting_goes_on_in_the_next_part(text: str, tag: str) -> None:
    if text.strip(UNSEEN):
        parts = FORMAT(f"<{tag}>{html.escape(text)}</{tag}>", Format.HTML)
        for part in parts:
            check(part)
            assert len(part.entities) == 1
        covered = "".join(found for part in parts for _, found in marked(part))
        assert without_blanks(covered) == without_blanks(text)


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("a" * 3000 + "\n\n" + "b" * 500 + "\n" + "c" * 3000, "a" * 3000),
        ("a" * 3000 + "\n" + "b. " + "c" * 3000, "a" * 3000),
        ("a" * 3000 + ". " + "b " + "c" * 3000, "a" * 3000 + "."),
        ("a" * 3000 + " " + "c" * 3000, "a" * 3000),
        ("a" * 100 + "\n\n" + "b" * 5000, "a" * 100 + "\n\n" + "b" * 3994),
        ("x" * 4095 + "🇩🇪" + "y", "x" * 4095),
        ("x" * 4095 + "e\u0301", "x" * 4095),
        ("x" * 4094 + "👍🏽" + "y", "x" * 4094 + "👍🏽"),
    ],
    ids=["paragraph", "line", "sentence", "word", "no scraps", "flag", "accent", "fits"],
)
def test_a_long_text_is_cut_where_a_reader_would_pause(text: str, first: str) -> None:
    assert FORMAT(text, Format.PLAIN)[0].text == first


def test_code_keeps_its_indentation_in_the_next_part() -> None:
    line = "    " + "x" * 95 + "\n"
    parts = FORMAT("```\n" + line * 60 + "```", Format.MARKDOWN)
    assert len(parts) == 2
    assert all(part.text.startswith("    x") and not part.text.endswith("\n") for part in parts)
    assert [kind for part in parts for kind, _ in marked(part)] == ["pre", "pre"]


def test_formatting_of_unicode_s_spaces_makes_no_blank_message() -> None:
    parts = FORMAT("<b>a</b> " * 100 + "<b>&#160;</b>" * 100 + "<b>b</b>", Format.HTML)
    assert [without_blanks(part.text) for part in parts] == ["a" * 100, "b"]


def test_no_message_has_more_formatting_than_telegram_keeps() -> None:
    parts = FORMAT("<b>a</b> " * 250, Format.HTML)
    assert [len(part.entities) for part in parts] == [100, 100, 50]
    assert without_blanks("".join(part.text for part in parts)) == "a" * 250
