"""HTML, MarkdownV2, Markdown and entities, as Telegram reads and refuses them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import telegram
from hypothesis import given
from hypothesis import strategies as st
from telegram.helpers import escape_markdown

from infra.sandbox.answers import MethodFailed
from infra.sandbox.markup import parse

if TYPE_CHECKING:
    from tests.integration.sandbox.conftest import Caller

ADA = 815
E_ORG = ("text_link", 0, 1, "https://e.org/")
MUST_BE_ESCAPED = "Character '{}' is reserved and must be escaped with the preceding '\\'"


def brief(entities: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    extras = ("url", "language", "custom_emoji_id", "unix_time", "date_time_format")
    return [
        (each["type"], each["offset"], each["length"], *(each[name] for name in extras if name in each))
        for each in entities
    ]


@pytest.mark.parametrize(
    ("mode", "source", "text", "entities"),
    [
        ("HTML", "a <b>b</b>", "a b", [("bold", 2, 1)]),
        (
            "html",
            "<strong>b</strong><em>i</em><ins>u</ins>",
            "biu",
            [("bold", 0, 1), ("italic", 1, 1), ("underline", 2, 1)],
        ),
        ("HTML", "<s>a</s><del>b</del>", "ab", [("strikethrough", 0, 1), ("strikethrough", 1, 1)]),
        ("HTML", "<b>b<i>i</i></b>", "bi", [("bold", 0, 2), ("italic", 1, 1)]),
        ("HTML", "😀<b>b</b>", "😀b", [("bold", 2, 1)]),
        ("HTML", "<tg-spoiler>x</tg-spoiler>", "x", [("spoiler", 0, 1)]),
        ("HTML", "<span class='tg-spoiler'>x</span>", "x", [("spoiler", 0, 1)]),
        ("HTML", "&lt;&amp;&gt;&quot;&#65;&#x42;&copy;&", '<&>"AB&copy;&', []),
        (
            "HTML",
            '<a href="https://e.org/?a=1&amp;b=2">x</a>',
            "x",
            [("text_link", 0, 1, "https://e.org/?a=1&b=2")],
        ),
        ("HTML", "<a href='e.org'>x</a>", "x", [("text_link", 0, 1, "http://e.org/")]),
        ("HTML", "<a>https://e.org</a>", "https://e.org", [("text_link", 0, 13, "https://e.org/")]),
        ("HTML", "<a href='http://localhost'>x</a>", "x", []),
        ("HTML", "<a href='javascript:alert(1)'>x</a>", "x", []),
        ("HTML", "<pre>x</pre>", "x", [("pre", 0, 1)]),
        ("HTML", '<pre><code class="language-c">x</code></pre>', "x", [("pre", 0, 1, "c")]),
        ("HTML", '<code class="language-c">x</code>', "x", [("code", 0, 1)]),
        ("HTML", "<code>a<b>b</b></code>", "ab", [("code", 0, 2)]),
        # Source: fix_entities in td/telegram/MessageEntity.cpp, github.com/tdlib/td
        ("HTML", "<a href='e.org'><code>a</code></a>", "a", [("code", 0, 1)]),
        (
            "HTML",
            "<a href='e.org'>a <code>b</code></a><i>c</i>",
            "a bc",
            [("text_link", 0, 3, "http://e.org/"), ("italic", 3, 1)],
        ),
        ("HTML", "<tg-time unix='1'><b>a</b> b</tg-time>", "a b", [("date_time", 0, 3, 1)]),
        ("HTML", "<b>a<code>b</code></b>", "ab", [("bold", 0, 2), ("code", 1, 1)]),
        ("HTML", "<blockquote>q</blockquote>", "q", [("blockquote", 0, 1)]),
        ("HTML", "<blockquote expandable>q</blockquote>", "q", [("expandable_blockquote", 0, 1)]),
        ("HTML", '<tg-emoji emoji-id="77">👍</tg-emoji>', "👍", [("custom_emoji", 0, 2, "77")]),
        ("HTML", "<b></b>x", "x", []),
        ("HTML", "<b>x</>", "x", [("bold", 0, 1)]),
        ("HTML", "  <b> x </b>  ", " x", [("bold", 0, 2)]),
        (
            "MarkdownV2",
            "*b* _i_ __u__ ~s~ ||p||",
            "b i u s p",
            [
                ("bold", 0, 1),
                ("italic", 2, 1),
                ("underline", 4, 1),
                ("strikethrough", 6, 1),
                ("spoiler", 8, 1),
            ],
        ),
        ("MarkdownV2", r"a\.b\_c", "a.b_c", []),
        ("MarkdownV2", "*b _i_*", "b i", [("bold", 0, 3), ("italic", 2, 1)]),
        ("MarkdownV2", "`a.b` ```py\nx=1```", "a.b x=1", [("code", 0, 3), ("pre", 4, 3, "py")]),
        ("MarkdownV2", "[x](https://e.org/\\))", "x", [("text_link", 0, 1, "https://e.org/)")]),
        ("MarkdownV2", "![👍](tg://emoji?id=77)", "👍", [("custom_emoji", 0, 2, "77")]),
        ("MarkdownV2", ">q\n>r\nx", "q\nr\nx", [("blockquote", 0, 4)]),
        ("MarkdownV2", ">q||\nx", "q\nx", [("expandable_blockquote", 0, 2)]),
        ("MarkdownV2", ">q||", "q", [("expandable_blockquote", 0, 1)]),
        (
            "Markdown",
            "*b* _i_ `c` [x](https://e.org)",
            "b i c x",
            [("bold", 0, 1), ("italic", 2, 1), ("code", 4, 1), ("text_link", 6, 1, "https://e.org/")],
        ),
        ("Markdown", "```\nx```", "x", [("pre", 0, 1)]),
        ("Markdown", r"a\_b.c!", "a_b.c!", []),
        ("", "*b*\r\nx\x07y ", "*b*\nx y", []),
        ("none", "<b>x</b>", "<b>x</b>", []),
        ("HTML", "a\r\n<b>b\r\nc</b>", "a\nb\nc", [("bold", 2, 3)]),
        (
            "HTML",
            "<a href='tg://resolve?domain=ada'>x</a>",
            "x",
            [("text_link", 0, 1, "tg://resolve?domain=ada")],
        ),
        ("HTML", "<a href='http://[e.org'>x</a>", "x", []),
        (
            "HTML",
            "<a href='HTTP://ada@E.org/a b'>x</a>",
            "x",
            [("text_link", 0, 1, "http://ada@e.org/a%20b")],
        ),
        ("HTML", "<a href='http://jenkins:8080/job/1'>x</a>", "x", []),
        (
            "HTML",
            "<a href='TG:resolve?domain=ada'>x</a>",
            "x",
            [("text_link", 0, 1, "tg://resolve?domain=ada")],
        ),
        ("HTML", "<b class=x >x</b >", "x", [("bold", 0, 1)]),
        ("HTML", "<a name='x' href='e.org:81/y'>x</a>", "x", [("text_link", 0, 1, "http://e.org:81/y")]),
        ("HTML", "&#0;&#xD800 ;x", "&#0;&#xD800 ;x", [("hashtag", 5, 6)]),
        ("HTML", "<tg-time unix='1'>now</tg-time>", "now", [("date_time", 0, 3, 1)]),
        ("HTML", "<tg-time unix='9' format='wDT'>x</tg-time>", "x", [("date_time", 0, 1, 9, "wDT")]),
        ("HTML", "<tg-time>now</tg-time>", "now", []),
        ("MarkdownV2", "![x](tg://time?unix=9&format=r)", "x", [("date_time", 0, 1, 9, "r")]),
        ("", "a\u2028\u0333<\u202eb\tc", "a<b c", []),
        ("HTML", "a\u202e<b>b\u030a</b>c", "abc", [("bold", 1, 1)]),
        ("", "\u00a0x\u3000", "\u00a0x\u3000", []),
        ("HTML", "<b hidden>x</b>", "x", [("bold", 0, 1)]),
        ("MarkdownV2", "_a __b___", "a b", [("italic", 0, 3), ("underline", 2, 1)]),
        ("MarkdownV2", "[](https://e.org)x", "x", []),
        ("MarkdownV2", "```\r\nx```", "x", [("pre", 0, 1)]),
        ("MarkdownV2", "x\n>", "x", []),
        ("Markdown", "**x [a](https://e.org", "x a", [("text_link", 2, 1, "https://e.org/")]),
    ],
)
async def test_formatting_becomes_entities(
    call: Caller, mode: str, source: str, text: str, entities: list[Any]
) -> None:
    sent = await call.result("sendMessage", chat_id=ADA, text=source, parse_mode=mode)
    assert sent["text"] == text
    assert brief(sent.get("entities", [])) == entities


@pytest.mark.parametrize(
    ("mode", "source", "words"),
    [
        ("HTML", "<b>x", 'Can\'t find end tag corresponding to start tag "b"'),
        ("HTML", "ä<br>", 'Unsupported start tag "br" at byte offset 2'),
        ("HTML", "x</b>", "Unexpected end tag at byte offset 1"),
        (
            "HTML",
            "<b>x</i>",
            'Unmatched end tag at byte offset 4, expected "</b>", found "</i>"',
        ),
        ("HTML", "<b", "Unclosed start tag at byte offset 0"),
        ("HTML", "<b>x</b", "Unclosed end tag at byte offset 4"),
        ("HTML", "<a href", 'Unclosed start tag "a" at byte offset 0'),
        ("HTML", "<a href=", 'Unclosed start tag "a" at byte offset 0'),
        ("HTML", '<a href="x', "Unclosed start tag at byte offset 0"),
        ("HTML", "<a =x>", 'Empty attribute name in the tag "a" at byte offset 0'),
        ("HTML", "<a href=x!>x</a>", "Unexpected end of name token at byte offset 8"),
        ("HTML", "<span>x</span>", 'Tag "span" must have class "tg-spoiler" at byte offset 0'),
        ("HTML", "<tg-emoji>x</tg-emoji>", "Invalid custom emoji identifier specified"),
        ("HTML", "<tg-emoji emoji-id='0'>x</tg-emoji>", "Invalid custom emoji identifier specified"),
        ("HTML", "<tg-time unix='1' format='Y'>x</tg-time>", "Invalid date format used"),
        ("MarkdownV2", "![x](tg://time?unix=0)", "Invalid tg://emoji or tg://time URL specified"),
        ("MarkdownV2", "ä.", MUST_BE_ESCAPED.format(".")),
        ("MarkdownV2", "a|b", MUST_BE_ESCAPED.format("|")),
        ("MarkdownV2", "a!", MUST_BE_ESCAPED.format("!")),
        ("MarkdownV2", "a>b", MUST_BE_ESCAPED.format(">")),
        ("MarkdownV2", "ä *b", "Can't find end of Bold entity at byte offset 3"),
        ("MarkdownV2", "_i", "Can't find end of Italic entity at byte offset 0"),
        ("MarkdownV2", "```py\nx", "Can't find end of PreCode entity at byte offset 0"),
        ("MarkdownV2", ">*q\nx", "Can't find end of Bold entity at byte offset 1"),
        ("MarkdownV2", "[x](http://e.org", "Can't find end of a URL at byte offset 4"),
        ("MarkdownV2", "![x]", "The entity must contain a tg://emoji or tg://time URL"),
        ("MarkdownV2", "![x](http://e.org)", "Invalid tg://emoji or tg://time URL specified"),
        ("Markdown", "ä *b", "Can't find end of the entity starting at byte offset 3"),
    ],
)
async def test_wrong_formatting_is_refused_in_telegram_s_words(
    call: Caller, mode: str, source: str, words: str
) -> None:
    refused = await call.refusal("sendMessage", chat_id=ADA, text=source, parse_mode=mode)
    assert refused == (400, f"Bad Request: can't parse entities: {words}")


async def test_an_unknown_mode_is_refused(call: Caller) -> None:
    refused = await call.refusal("sendMessage", chat_id=ADA, text="x", parse_mode="RTF")
    assert refused == (400, "Bad Request: unsupported parse_mode")


async def test_what_stands_in_a_text_is_found(call: Caller) -> None:
    text = "😀 /deploy@telegate_sandbox_bot @ada #ops https://e.org/x. a@e.org e.org $EUR no/command"
    sent = await call.result("sendMessage", chat_id=ADA, text=text)
    found = [(each["type"], each["length"]) for each in sent["entities"]]
    assert found == [
        ("bot_command", 28),
        ("mention", 4),
        ("hashtag", 4),
        ("url", 15),
        ("email", 7),
        ("url", 5),
        ("cashtag", 4),
    ]
    assert sent["entities"][0]["offset"] == 3


async def test_nothing_is_found_inside_code_and_links(call: Caller) -> None:
    source = "<code>/deploy</code> <a href='https://e.org'>@ada</a>"
    sent = await call.result("sendMessage", chat_id=ADA, text=source, parse_mode="HTML")
    assert [each["type"] for each in sent["entities"]] == ["code", "text_link"]


async def test_entities_may_be_given_instead(bot: telegram.Bot) -> None:
    entities = [
        telegram.MessageEntity("bold", 3, 2),
        telegram.MessageEntity("text_link", 6, 1, url="https://e.org/"),
    ]
    sent = await bot.send_message(ADA, "😀 ab c", entities=entities)
    assert list(sent.entities) == entities


# Source: check_link in td/telegram/LinkManager.cpp, parse_url in tdutils/td/utils/HttpUrl.cpp, and
# get_message_entities in td/telegram/MessageEntity.cpp, github.com/tdlib/td
NO_ADDRESSES = [
    ("http://jenkins:8080/job/1", "Wrong HTTP URL"),
    ("localhost", "Wrong HTTP URL"),
    ("/relative", "URL host is empty"),
    ("", "URL host is empty"),
    (".", "Host is invalid"),
    ("ftp://e.org", "Unsupported URL protocol"),
    ("https://e.org:0", "Wrong port number specified in the URL"),
    ("https://e.org:65536/", "Wrong port number specified in the URL"),
    ("https://e.org:x/", "Wrong port number specified in the URL"),
    ("javascript:alert(1)", "Wrong port number specified in the URL"),
    ("https://[::g]/", "Wrong IPv6 address specified in the URL"),
    ("https://e^x.org/", "Disallowed character in URL host"),
    ("https://e%2.org/", "Wrong percent-encoded symbol in URL host"),
    ("https://a b@e.org/", "Disallowed character in URL userinfo"),
    ("tg://ada@resolve", "Wrong tg URL"),
    ("ton://x:80", "Wrong ton URL"),
    ("tg:http://e.org", "Wrong tg URL"),
    ("tg://a.b", "Unallowed characters in URL host"),
]


@pytest.mark.parametrize(("address", "reason"), NO_ADDRESSES)
async def test_a_link_that_telegram_does_not_open_is_refused_with_the_whole_message(
    call: Caller, address: str, reason: str
) -> None:
    link = {"type": "text_link", "offset": 0, "length": 1, "url": address}
    refused = await call.refusal("sendMessage", chat_id=ADA, text="abc", entities=[link])
    assert refused == (400, f"Bad Request: entity URL '{address}' is invalid: {reason}")
    if address:
        markup = {"inline_keyboard": [[{"text": "Open", "url": address}]]}
        refused = await call.refusal("sendMessage", chat_id=ADA, text="abc", reply_markup=markup)
        assert refused == (400, f"Bad Request: inline keyboard button URL '{address}' is invalid: {reason}")


async def test_entities_are_kept_as_telegram_writes_them(call: Caller) -> None:
    given = [
        {"type": "text_link", "offset": 0, "length": 1, "url": "E.org"},
        {"type": "text_link", "offset": 1, "length": 1, "url": "tg://user?id=4711"},
        {"type": "url", "offset": 1, "length": 1},
        {"type": "date_time", "offset": 2, "length": 1, "unix_time": 9, "date_time_format": "wDT"},
    ]
    sent = await call.result("sendMessage", chat_id=ADA, text="abc", entities=given)
    assert brief(sent["entities"]) == [
        ("text_link", 0, 1, "http://e.org/"),
        ("text_mention", 1, 1),
        ("date_time", 2, 1, 9, "wDT"),
    ]


async def test_more_formatting_than_telegram_takes_is_refused(call: Caller) -> None:
    """Measured on Telegram's server; the error is in core.telegram.org/method/messages.sendMessage."""

    def links(number: int) -> list[dict[str, Any]]:
        url = "https://e.org/".ljust(446, "x")
        return [{"type": "text_link", "offset": at, "length": 1, "url": url} for at in range(number)]

    await call.result("sendMessage", chat_id=ADA, text="x" * 25, entities=links(20))
    refused = await call.refusal("sendMessage", chat_id=ADA, text="x" * 25, entities=links(25))
    assert refused == (400, "Bad Request: ENTITIES_TOO_LONG")


# Source of the first: strip_empty_characters in td/telegram/misc.cpp, github.com/tdlib/td; of the second:
# core.telegram.org/method/messages.sendMessage
@pytest.mark.parametrize(
    ("marks", "words"),
    [
        (
            " \n\r\t\u00a0\u1680\u180e\u2000\u200a\u200b\u200f\u2028\u202e\u202f\u205f\u2800",
            "text must be non-empty",
        ),
        ("\u3000\ufeff\ufffc\U000e0001\U000e007f\u0333\u030a", "text must be non-empty"),
        ("\u00ad\u034f\u061c\u115f\u2060\u3164\ufe0f\uffa0\U000e0100", "MESSAGE_EMPTY"),
    ],
)
async def test_a_text_of_which_nothing_is_seen_is_refused(call: Caller, marks: str, words: str) -> None:
    for text in (*marks, marks):
        assert await call.refusal("sendMessage", chat_id=ADA, text=text) == (400, f"Bad Request: {words}")
    sent = await call.result("sendMessage", chat_id=ADA, text=f"{marks}x")
    refused = await call.refusal("editMessageText", chat_id=ADA, message_id=sent["message_id"], text=marks)
    assert refused == (400, f"Bad Request: {words}")


async def test_a_link_to_a_person_is_a_mention(call: Caller) -> None:
    source = '<a href="tg://user?id=4711">Grace</a>'
    sent = await call.result("sendMessage", chat_id=ADA, text=source, parse_mode="HTML")
    assert sent["entities"][0]["user"]["first_name"] == "Grace"


@pytest.mark.parametrize(
    ("entity", "words"),
    [
        (
            {"type": "bold", "offset": 9, "length": 1},
            "entity begins after the end of the text at UTF-16 offset 9",
        ),
        (
            {"type": "bold", "offset": 0, "length": 9},
            "entity beginning at UTF-16 offset 0 ends after the end of the text at UTF-16 offset 9",
        ),
        ({"type": "bold", "offset": -1, "length": 1}, "receive an entity with incorrect offset -1"),
        ({"type": "bold", "offset": 0, "length": -1}, "receive an entity with incorrect length -1"),
        (
            {"type": "bold", "offset": "0", "length": 1},
            'can\'t parse MessageEntity: Field "offset" must be of type Number',
        ),
        (1, "can't parse MessageEntity: expected an Object"),
        # Source: get_text_entity_type in telegram-bot-api/Client.cpp, github.com/tdlib/telegram-bot-api
        (
            {"type": "sparkle", "offset": 0, "length": 1},
            "can't parse MessageEntity: Unsupported type specified",
        ),
        (
            {"type": "date_time", "offset": 0, "length": 1},
            "can't parse MessageEntity: Can't find field \"unix_time\"",
        ),
        (
            {"type": "date_time", "offset": 0, "length": 1, "unix_time": 1, "date_time_format": "Y"},
            "can't parse MessageEntity: Invalid date-time format specified",
        ),
        ({"type": "date_time", "offset": 0, "length": 1, "unix_time": 0}, "invalid date specified"),
        (
            {"type": "custom_emoji", "offset": 0, "length": 1, "custom_emoji_id": "0"},
            "invalid custom emoji identifier specified",
        ),
    ],
)
async def test_entities_have_to_fit_the_text(call: Caller, entity: object, words: str) -> None:
    refused = await call.refusal("sendMessage", chat_id=ADA, text="abc", entities=[entity])
    assert refused == (400, f"Bad Request: {words}")


@given(st.text(min_size=1, max_size=60))
def test_escaped_text_comes_through_as_it_is(text: str) -> None:
    try:
        plain = parse(text, "")
    except MethodFailed as nothing_left:
        words = {"Bad Request: text must be non-empty", "Bad Request: MESSAGE_EMPTY"}
        assert nothing_left.description in words  # noqa: PT017 - both ways are right
        return
    escaped = parse(escape_markdown(text, version=2), "MarkdownV2")
    assert escaped == plain
    assert parse(text.replace("&", "&amp;").replace("<", "&lt;"), "HTML") == plain


@given(
    st.text(alphabet="<>/ab =\"'&;lt`*_[]()!|~\\\n>-x😀", max_size=40),
    st.sampled_from(["HTML", "MarkdownV2", "Markdown"]),
)
def test_any_source_is_either_parsed_or_refused(source: str, mode: str) -> None:
    try:
        parsed = parse(source, mode)
    except MethodFailed as refused:
        assert refused.status == 400  # noqa: PT017 - both ways are right
        return
    length = len(parsed.text.encode("utf-16-le")) // 2
    ends = [each.offset + each.length for each in parsed.entities]
    assert all(end <= length for end in ends)
    assert all(each.offset >= 0 and each.length > 0 for each in parsed.entities)
