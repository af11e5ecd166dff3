"""From what a service wrote to what Telegram takes."""

from __future__ import annotations

import html
import sys
import time
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from core.model.errors import Invalid
from core.model.message import Format
from core.model.part import FormattedText
from core.model.visibility import shows_nothing
from infra.sandbox.answers import MethodFailed
from infra.sandbox.markup import parse
from infra.telegram.formatting.formatter import TelegramFormatter
from infra.telegram.formatting.marked_text import LARGEST_FORMATTING
from infra.telegram.formatting.split import LONGEST_TEXT, MOST_ENTITIES

FORMAT = TelegramFormatter().format

# What Telegram's own trimming takes away, and what no message can hold.
BLANK = "".join(map(chr, range(33))) + "\u2028\u2029\u202a\u202b\u202c\u202d\u202e"
# What shows nothing when nothing else is there.
UNSEEN = "".join(mark for mark in map(chr, range(sys.maxunicode + 1)) if shows_nothing(mark))
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"))
SPACE_PIECES = ("\u00a0", "\u3000" * 500, "\u2003\n", "\u202a\u00a0", "\u200b", "\u3164" * 500, "❤\ufe0f")
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


@pytest.mark.parametrize("text", ["**\u200b**", "<b> </b>", "&#32;", "<b>\u3164</b>"])
def test_a_text_that_is_empty_after_its_markup_is_refused(text: str) -> None:
    assert "nothing to show" in refused(text, Format.MARKDOWN if text.startswith("*") else Format.HTML)


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
    for mark in (*map(chr, range(1, 0x3200)), *UNSEEN[1:]):
        try:
            parse(mark, "")
        except MethodFailed:
            assert "nothing to show" in refused(mark, Format.PLAIN), hex(ord(mark))
        else:
            assert one(mark, Format.PLAIN).text == mark


@pytest.mark.parametrize("markup", list(Format))
def test_what_cannot_be_seen_stays_where_something_else_can_be_seen(markup: Format) -> None:
    assert one("\u200bx\u2060y ❤\ufe0f", markup).text == "\u200bx\u2060y ❤\ufe0f"


def test_what_is_drawn_on_the_last_sign_of_a_long_text_stays() -> None:
    assert FORMAT("x" * 5000 + " ❤\ufe0f", Format.PLAIN)[-1].text.endswith("❤\ufe0f")


def test_a_blank_part_in_the_middle_is_left_out() -> None:
    for blank in ("\u200b", "\u3164", "\u2800", "\n\u2060"):
        parts = FORMAT("a" * 4096 + blank * 9000 + "b", Format.PLAIN)
        assert [part.text.strip(blank) for part in parts] == ["a" * 4096, "b"]


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
        ('<tg-time unix="1647531900">x</tg-time>', "date_time"),
        ('<a href="tg:user?id=815">x</a>', "text_mention"),
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
    assert marked(one('<tg-time unix="1">a<b>b</b></tg-time>', Format.HTML)) == [("date_time", "ab")]
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
        ('a\n<a href="http://jenkins:8080/job/1">x</a>', "Line 2, column 1: a link needs an address"),
        ('<a href="https://e.org:65536/">x</a>', "a link needs an address"),
        ('<a href="mailto:a@e.org">x</a>', "a link needs an address"),
        (f'<a href="https://e.org/{"x" * 9000}">x</a>', "a link needs an address"),
        ("<span>x</span>", 'must be <span class="tg-spoiler">'),
        ("<tg-time>x</tg-time>", "must say when"),
        ('<tg-time unix="0">x</tg-time>', "must say when"),
        ('<tg-time unix="2147483648">x</tg-time>', "must say when"),
        ('<tg-time unix="1" format="Y">x</tg-time>', "must say when"),
        ('<tg-emoji emoji-id="0">x</tg-emoji>', "must name an emoji"),
        (f'<tg-emoji emoji-id="{2**63}">x</tg-emoji>', "must name an emoji"),
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
        ("[x](http://jenkins:8080/job/1)", "x (http://jenkins:8080/job/1)", []),
        ("[**x** y](http://localhost)", "x y (http://localhost)", [("bold", "x")]),
        ("![x](https://e.org:99999/i.png)", "x (https://e.org:99999/i.png)", []),
        ("![](http://localhost/i.png)", "http://localhost/i.png", []),
        ("<http://localhost:3000/a>", "http://localhost:3000/a", []),
        ("<ftp://e.org/a>", "ftp://e.org/a", []),
        ("[x][1]\n\n[1]: http://jenkins/ 'Jenkins'", "x (http://jenkins/)", []),
        ("[x]\n\n[x]: /y", "x (/y)", []),
        ("[x](javascript:alert)", "x (javascript:alert)", []),
        ("[x](</größe/a b>)", "x (/größe/a%20b)", []),
        ("[](https://e.org)", "https://e.org", [("text_link", "https://e.org")]),
        ("[x]()", "x", []),
        ("[`x`](https://e.org)", "x", [("text_link", "x")]),
        ("[a `x`](https://e.org)", "a x", [("text_link", "a x")]),
        ("[`x`](/y)", "x (/y)", [("code", "x")]),
        ("**`x`**", "x", [("bold", "x"), ("code", "x")]),
        ("[![x](https://e.org/i.png)](https://e.org)", "x", [("text_link", "x")]),
        ("![👍](tg://emoji?id=5368324170671202286)", "👍", [("custom_emoji", "👍")]),
        ("![now](tg://time?unix=1647531900&format=wDT)", "now", [("date_time", "now")]),
        ("![now](tg://time?unix=0)", "now", [("text_link", "now")]),
        ("**「重要」**です", "「重要」です", [("bold", "「重要」")]),
        ("これは**「重要」**です", "これは「重要」です", [("bold", "「重要」")]),
        ("请看**注意。**下面", "请看注意。下面", [("bold", "注意。")]),
        ("*(重要)*です", "(重要)です", [("italic", "(重要)")]),
        ("~~「古」~~新", "「古」新", [("strikethrough", "「古」")]),
        ("**중요!**입니다", "중요!입니다", [("bold", "중요!")]),
        ("**a:**b", "**a:**b", []),
        ("a * 重 * b", "a * 重 * b", []),
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


# Size of formatting


def links(number: int, length: int) -> str:
    return " ".join(f'<a href="{f"https://e.org/{i}/".ljust(length, "x")}">link</a>' for i in range(number))


def test_twenty_links_of_446_characters_fit_into_a_message_and_25_do_not() -> None:
    assert len(FORMAT(links(20, 446), Format.HTML)) == 1
    parts = FORMAT(links(25, 446), Format.HTML)
    assert [len(part.entities) for part in parts] == [20, 5]
    assert " ".join(part.text for part in parts) == " ".join(["link"] * 25)


@given(st.lists(st.sampled_from([links(1, 30), links(1, 3000), links(9, 900), "<b>b</b>", "word " * 300])))
def test_no_message_has_more_formatting_than_telegram_takes(pieces: list[str]) -> None:
    for part in read_or_refused(" ".join(pieces), Format.HTML):
        check(part)
        assert sum(12 + len(entity.url or "") for entity in part.entities) <= LARGEST_FORMATTING


def test_an_address_that_fills_a_message_by_itself_is_shown_as_text() -> None:
    address = f"https://e.org/{'x' * 9000}"
    parts = FORMAT(f"[label]({address})", Format.MARKDOWN)
    assert "".join(part.text for part in parts) == f"label ({address})"
    assert not any(part.entities for part in parts)


def test_a_language_that_is_none_is_left_out() -> None:
    for text, markup in (
        ("```" + "x" * 9600 + "\na\n```", Format.MARKDOWN),
        (f'<pre><code class="language-{"x" * 9600}">a</code></pre>', Format.HTML),
    ):
        assert one(text, markup).entities[0].language is None


def test_times_and_people_are_kept_as_telegram_s_own_links() -> None:
    text = '<tg-time unix="1647531900" format="wDT">x</tg-time> <a href="TG:user?id=815">Ada</a>'
    assert [entity.url for entity in one(text, Format.HTML).entities] == [
        "tg://time?unix=1647531900&format=wDT",
        "tg://user?id=815",
    ]


# Tables

WIDE = """
| Job | State | Log |
|---|---|---|
| build | ok | [open](https://e.org/1) |
| deploy | **failed** | |
"""


def test_a_narrow_table_stands_in_columns() -> None:
    part = one(
        "Jobs:\n\n| 名前 | State |\n|---|---|\n| `a` | **ok** |\n| b | failed |\n\nEnd", Format.MARKDOWN
    )
    assert part.text.split("\n") == ["Jobs:", "", "名前  State", "a     ok", "b     failed", "", "End"]
    assert [kind for kind, _ in marked(part)] == ["pre"]


def test_a_table_that_no_phone_shows_is_written_row_by_row() -> None:
    part = one(WIDE, Format.MARKDOWN)
    assert part.text == "Job: build\nState: ok\nLog: open\n\nJob: deploy\nState: failed"
    assert marked(part) == [
        ("bold", "Job: build"),
        ("text_link", "open"),
        ("bold", "Job: deploy"),
        ("bold", "failed"),
    ]


def test_a_table_with_many_rows_or_none_says_its_heads_once() -> None:
    head = "| " + " | ".join(["A long head of a column"] * 3) + " |\n|---|---|---|\n"
    parts = FORMAT(head + "| a | b | c |\n" * 200, Format.MARKDOWN)
    text = "\n".join(part.text for part in parts)
    assert text.count("A long head of a column") == 3
    assert text.count("a · b · c") == 200
    assert one(head, Format.MARKDOWN).text == " · ".join(["A long head of a column"] * 3)


def test_no_cell_of_a_table_is_lost() -> None:
    extra = "| a | b |\n|---|---|\n| 1 | `x || y` |"
    assert one(extra, Format.MARKDOWN).text == "| a | b |\n|---|---|\n| 1 | x || y |"
    escaped = "| a | b |\n|---|---|\n| 1 | `x \\|\\| y` |"
    assert one(escaped, Format.MARKDOWN).text == "a  b\n1  x || y"
    without_first = "| A long head of a column | Another |\n|---|---|\n| | 2 |\n| 3 | |"
    assert one(without_first, Format.MARKDOWN).text == "Another: 2\n\nA long head of a column: 3"


def test_a_table_does_not_make_a_short_text_long() -> None:
    columns = "|" + "a|" * 5000 + "\n|" + "-|" * 5000 + "\n" + "|a\n" * 3000
    assert sum(len(part.text) for part in FORMAT(columns, Format.MARKDOWN)) < 2 * len(columns)


# Time


@pytest.mark.parametrize(
    ("markup", "unit"),
    [
        (Format.HTML, ("<b><i>", " " * 6, "</i></b>")),
        (Format.HTML, ("", '<a href="https://e.org">a</a> ', "")),
        (Format.MARKDOWN, ("", "*a* **b *c ", "")),
        (Format.MARKDOWN, ("", "![[a](b <", "")),
        (Format.MARKDOWN, ("", "a|b\n-|-\n", "")),
        (Format.MARKDOWN, ("a|b\n-|-\n", "x\n", "x|y|z\n")),
        (Format.MARKDOWN, ("> ", "- a\n", "")),
        (Format.PLAIN, ("", "🇩🇪\u200b ", "")),
    ],
    ids=["nested", "links", "emphasis", "brackets", "tables", "tables in vain", "lists", "flags"],
)
def test_four_times_the_text_takes_four_times_as_long(markup: Format, unit: tuple[str, str, str]) -> None:
    def seconds(characters: int) -> float:
        times = characters // len("".join(unit))
        text = unit[0] * times + unit[1] * times + unit[2] * times
        taken = []
        for _ in range(3):
            begun = time.thread_time()
            read_or_refused(text, markup)
            taken.append(time.thread_time() - begun)
        return min(taken)

    seconds(1000)
    assert seconds(32_000) < 8 * seconds(8_000) + 0.01
