"""Whatever a service writes: what is sent is taken by the sandbox, which refuses as Telegram does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.model.errors import Invalid
from core.model.message import Format
from core.model.part import Part
from infra.sandbox.parameters import Parameters
from infra.sandbox.requests import send_text
from infra.telegram.formatting.formatter import TelegramFormatter
from infra.telegram.payloads import message_parameters

FORMAT = TelegramFormatter().format

ADDRESSES = st.sampled_from(
    [
        *(
            "https://e.org",
            "http://jenkins:8080/x",
            "localhost",
            "/x",
            "e.org:0",
            "e.org:99999",
            "https://[::1]",
        ),
        *(
            "tg://user?id=815",
            f"tg://user?id={2**40}",
            "tg://user?id=0",
            "tg:resolve?domain=x",
            "tg://",
            "ton://a",
        ),
        *(
            "tg://emoji?id=5",
            "tg://emoji?id=0",
            "tg://time?unix=9&format=wDT",
            "tg://time?unix=0",
            "https://a^b.c",
        ),
        *(
            "mailto:a@e.org",
            "javascript:1",
            "ftp://e.org",
            "https://e.org/\u202e",
            "https://e.org/" + "x" * 3000,
        ),
        *("https://e.org/ä b", "http://e.org\u200b", "http://.", "../x", "https://e.org:80:80/", "#x", ""),
    ]
)
LABELS = st.sampled_from(
    ["x", "", "\u200b", "\u3164", " ", "重要。", "**b**", "`c`", "😀", "a" * 300, "\u030a"]
)
HTML = st.builds('<a href="{1}">{0}</a> <b>{0}</b><tg-time unix="9">{0}</tg-time>'.format, LABELS, ADDRESSES)
MARKDOWN = st.one_of(
    st.builds("[{0}]({1}) ".format, LABELS, ADDRESSES),
    st.builds("![{0}](<{1}>)\n\n".format, LABELS, ADDRESSES),
    st.builds("<{1}> **{0}** ".format, LABELS, ADDRESSES),
    st.builds("[{0}]\n\n[{0}]: {1}\n\n".format, LABELS, ADDRESSES),
    st.builds("\n\n|{0}|b|\n|-|-|\n|{1}|[{0}]({1})|\n\n".format, LABELS, ADDRESSES),
    st.builds("\n\n- > {0}\n\n```{0}\n{1}\n```\n".format, LABELS, ADDRESSES),
)


@pytest.mark.parametrize("markup", list(Format))
@given(data=st.data())
def test_what_is_sent_is_never_refused(markup: Format, data: st.DataObject) -> None:
    pieces = {Format.HTML: HTML, Format.MARKDOWN: MARKDOWN, Format.PLAIN: LABELS}[markup]
    text = "".join(data.draw(st.lists(pieces, max_size=12)))
    try:
        parts = FORMAT(text, markup)
    except Invalid:
        return
    for part in parts:
        sent = send_text(Parameters(message_parameters(815, 1, Part(part))))
        taken = [entity.type for entity in sent.body.entities]
        for kind in ("text_link", "text_mention", "custom_emoji", "date_time", "code", "pre"):
            assert taken.count(kind) == [entity.type for entity in part.entities].count(kind)
