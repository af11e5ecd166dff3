"""Every refusal: its code, its words in one shape, and nothing done."""

from __future__ import annotations

import json
import time

import jwt
import pytest

from tests.acceptance.contract import Json
from tests.acceptance.gateway import JWT_SECRET, Gate, Service, message, minted, opened, question

pytestmark = pytest.mark.asyncio(loop_scope="module")


# Tokens


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


NO_TOKENS: list[dict[str, str]] = [
    {},
    {"Authorization": ""},
    {"Authorization": "Bearer"},
    {"Authorization": "Bearer "},
    {"Authorization": "Basic Y2k6c2VjcmV0"},
    bearer("x"),
    bearer("a.b.c"),
    bearer("eyJhbGciOiJub25lIn0.eyJzdWIiOiJjaSJ9."),
]


@pytest.mark.parametrize("headers", NO_TOKENS)
async def test_no_token_or_nonsense_is_401(gate: Gate, headers: dict[str, str]) -> None:
    response = await gate.request("GET", "/v1/me", headers=headers)
    response.problem("unauthenticated")
    assert response.headers["WWW-Authenticate"].startswith("Bearer")


WRONG_CLAIMS: list[Json] = [
    {"iss": "somebody"},
    {"sub": "unknown-service"},
    {"sub": None},
    {"aud": "another"},
    {"aud": None},
    {"iat": None},
    {"exp": None},
    {"jti": None},
    {"jti": ""},
    {"roles": None},
    {"roles": "everything"},
    {"iat": int(time.time()) + 3600, "exp": int(time.time()) + 7200},
    {"nbf": int(time.time()) + 3600},
    {"exp": int(time.time()) + 91 * 86_400},
    {"exp": "tomorrow"},
    {"iat": 10**309},
    {"exp": 10**309},
    {"nbf": 10**309},
]


def told_without_times(claims: Json) -> str:
    """The same in every process: a test's name must not tell when it was collected."""
    return json.dumps({name: "later" if isinstance(value, int) else value for name, value in claims.items()})


@pytest.mark.parametrize("claims", WRONG_CLAIMS, ids=told_without_times)
async def test_a_token_with_a_wrong_claim_is_invalid(gate: Gate, claims: Json) -> None:
    payload = {"sub": "service-1", **claims}
    now = int(time.time())
    whole = {
        "iss": "telegate",
        "aud": "telegate",
        "iat": now,
        "exp": now + 60,
        "jti": "x",
        "roles": ["everything"],
        **payload,
    }
    kept = {name: value for name, value in whole.items() if value is not None}
    # As bytes: PyJWT itself would refuse to write some of these.
    token = jwt.PyJWS().encode(json.dumps(kept).encode(), JWT_SECRET, algorithm="HS256")
    response = await gate.request("GET", "/v1/me", headers=bearer(token))
    response.problem("unauthenticated")
    assert "invalid" in response.headers["WWW-Authenticate"]


async def test_an_expired_token_is_told_to_be_expired_and_no_more(gate: Gate) -> None:
    now = int(time.time())
    token = minted("service-1", ["everything"], iat=now - 3600, exp=now - 60)
    response = await gate.request("GET", "/v1/me", headers=bearer(token))
    assert "expired" in response.problem("unauthenticated")["detail"]
    assert "expired" in response.headers["WWW-Authenticate"]


async def test_a_clock_that_is_a_little_late_does_no_harm(gate: Gate) -> None:
    now = int(time.time())
    token = gate.token("service-1", "everything", iat=now + 20, exp=now + 60)
    assert (await gate.request("GET", "/v1/me", headers=bearer(token))).status == 200
    token = gate.token("service-1", "everything", iat=now - 60, exp=now - 10)
    assert (await gate.request("GET", "/v1/me", headers=bearer(token))).status == 200


async def test_another_algorithm_or_secret_is_invalid(gate: Gate) -> None:
    claims = jwt.decode(minted("service-1", ["everything"]), options={"verify_signature": False})
    forgeries = [
        jwt.encode(claims, "another-secret-of-32-bytes-or-more!", algorithm="HS256"),
        jwt.encode(claims, JWT_SECRET.ljust(64, "!"), algorithm="HS512"),
        jwt.encode(claims, "", algorithm="none"),
        jwt.encode(claims, JWT_SECRET, algorithm="HS256", headers={"kid": "../../etc/passwd"}),
        jwt.encode(claims, JWT_SECRET, algorithm="HS256") + "A",
    ]
    for forgery in forgeries:
        response = await gate.request("GET", "/v1/me", headers=bearer(forgery))
        response.problem("unauthenticated")
        assert "invalid" in response.headers["WWW-Authenticate"]


async def test_revoked_and_outdated_tokens_do_not_count(gate: Gate) -> None:
    for claims in ({"jti": "stolen"}, {"iat": 1_700_000_000, "exp": 1_700_000_000 + 80 * 86_400}):
        token = gate.token("revoked", "everything", **claims)
        (await gate.request("GET", "/v1/me", headers=bearer(token))).problem("unauthenticated")
    token = gate.token("revoked", "everything")
    assert (await gate.request("GET", "/v1/me", headers=bearer(token))).status == 200


async def test_a_token_in_the_query_does_not_count(gate: Gate) -> None:
    token = gate.token("service-1", "everything")
    for name in ("access_token", "token", "authorization"):
        (await gate.request("GET", f"/v1/me?{name}={token}")).problem("unauthenticated")


async def test_two_authorization_headers_do_not_count(gate: Gate) -> None:
    token = gate.token("service-1", "everything")
    headers = [("Authorization", f"Bearer {token}"), ("Authorization", f"Bearer {token}")]
    (await gate.request("GET", "/v1/me", headers=headers)).problem("unauthenticated")


# Permissions


async def test_a_role_that_does_not_name_the_endpoint_is_forbidden(gate: Gate, service: Service) -> None:
    ada = gate.person()
    reader = service.with_roles("reader")
    (await reader.send(message(ada))).problem("forbidden")
    (await reader.ask(question(ada))).problem("forbidden")
    assert gate.sends(ada) == 0


async def test_a_token_narrows_and_never_widens(gate: Gate) -> None:
    ci = gate.service("everything", name="ci")
    (await ci.get("/v1/tasks")).problem("forbidden")
    none = gate.service("no-such-role")
    (await none.get("/v1/tasks")).problem("forbidden")
    assert (await none.get("/v1/me")).document["roles"] == []


async def test_a_role_includes_what_it_includes(gate: Gate) -> None:
    ci = gate.service("notifier", name="ci")
    assert (await ci.send(message("ops"))).task(200)["state"] == "sent"
    (await ci.ask(question("ops", respondents={"anyone": True}))).problem("forbidden")


async def test_a_chat_that_no_role_names_is_forbidden(gate: Gate) -> None:
    ada = gate.person()
    ci = gate.service("approver", name="ci")
    (await ci.send(message(ada))).problem("chat_forbidden")
    (await ci.ask(question(ada))).problem("chat_forbidden")
    assert gate.sends(ada) == 0


async def test_roles_are_not_mixed(gate: Gate) -> None:
    both = gate.service("notifier", "asker-of-ada")
    (await both.send(message("ada"))).problem("chat_forbidden")
    (await both.ask(question("ops", respondents={"anyone": True}))).problem("chat_forbidden")
    asked = await both.asked(question("ada"))
    assert asked["chat"]["alias"] == "ada"


# Chats and Telegram's no


@pytest.mark.parametrize("chat", ["nowhere", "Ops", "815", "@", "@x", "@not a name", "ops ", ""])
async def test_an_alias_that_policy_does_not_name_is_invalid(gate: Gate, service: Service, chat: str) -> None:
    assert (await service.send(message(chat))).pointers() == {"/chat"}


@pytest.mark.parametrize("chat", [True, 1.5, None, [], {}, 2**63, -(2**63) - 1])
async def test_a_chat_that_is_no_chat_is_invalid(gate: Gate, service: Service, chat: Json) -> None:
    response = await service.call("POST", "/v1/messages", {"chat": chat, "text": "Hello"})
    assert response.pointers() == {"/chat"}
    assert response.document["detail"] == "One field does not validate."


async def test_several_wrong_fields_are_called_several(gate: Gate, service: Service) -> None:
    response = await service.call("POST", "/v1/messages", {"chat": True, "text": 5})
    assert response.pointers() == {"/chat", "/text"}
    assert response.document["detail"] == "Several fields do not validate."


UNREACHABLE = {"no such chat": 123_123_123, "never pressed Start": 1337, "blocked the bot": 666}


@pytest.mark.parametrize("why", UNREACHABLE)
async def test_a_recipient_who_cannot_be_reached_is_told_at_once(
    gate: Gate, service: Service, why: str
) -> None:
    chat = UNREACHABLE[why]
    for response in (await service.send(message(chat)), await service.ask(question(chat))):
        task = response.problem("recipient_unreachable")["task"]
        assert task["state"] == "failed"
        assert task["error"]["code"] == "recipient_unreachable"
        assert task["error"]["telegram"]["error_code"] in {400, 403}
        assert task["error"]["telegram"]["description"]
        assert await service.task(task["id"]) == task


async def test_a_person_who_blocks_the_bot_can_be_reached_again_after_coming_back(
    gate: Gate, service: Service
) -> None:
    ada = gate.person()
    await ada.blocks()
    (await service.send(message(ada))).problem("recipient_unreachable")
    await ada.starts()
    await gate.next_message(ada)
    assert (await service.send(message(ada))).task(200)["state"] == "sent"


# Requests that cannot be read

UNREADABLE = {
    "nothing": b"",
    "white space": b"  \n",
    "no JSON": b"chat=815",
    "half": b'{"chat": 815',
    "two values": b"{} {}",
    "a key twice": b'{"chat": 815, "text": "a", "text": "b"}',
    "a key twice, deeper": b'{"chat": 815, "text": "a", "metadata": {"k": "1", "k": "2"}}',
    "NaN": b'{"chat": NaN, "text": "a"}',
    "Infinity": b'{"chat": -Infinity, "text": "a"}',
    "a comment": b'{"chat": 815 /* ada */, "text": "a"}',
    "single quotes": b"{'chat': 815, 'text': 'a'}",
    "a comma at the end": b'{"chat": 815, "text": "a",}',
    "not UTF-8": b'{"chat": 815, "text": "\xff"}',
    "UTF-16": '{"chat": 815}'.encode("utf-16"),
    "a byte order mark": b'\xef\xbb\xbf{"chat": 815, "text": "a"}',
    "a NUL byte": b'{"chat": 815, "text": "a\x00"}',
    "deep": b"[" * 100_000 + b"]" * 100_000,
    "deep objects": b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
}


HALF = {
    "a lone surrogate": b'{"chat": 815, "text": "\\ud800"}',
    "a lone surrogate behind a backslash": b'{"chat": 815, "text": "\\\\\\uD800"}',
    "a pair and a lone surrogate": b'{"chat": 815, "text": "\\ud83d\\ude00\\ude00"}',
    "two in the wrong order": b'{"chat": 815, "text": "\\ude00\\ud83d"}',
    "a lone surrogate in metadata": b'{"chat": 815, "text": "a", "metadata": {"k": "\\udc00"}}',
    "a lone surrogate in a name": b'{"chat": 815, "text": "a", "\\ud800": 1}',
}


@pytest.mark.parametrize("what", HALF)
async def test_half_a_character_is_malformed_and_its_place_is_told(
    gate: Gate, service: Service, what: str
) -> None:
    response = await service.call("POST", "/v1/messages", raw=HALF[what])
    assert "is half a character" in response.problem("malformed")["detail"]


async def test_whole_characters_and_backslashes_are_no_halves(gate: Gate, service: Service) -> None:
    ada = gate.person()
    raw = b'{"chat": %d, "text": "\\ud83d\\ude00 \\\\ud800"}' % ada.id
    (await service.call("POST", "/v1/messages", raw=raw)).task(200)
    assert (await gate.next_message(ada)).text == "\U0001f600 \\ud800"


async def test_a_byte_order_mark_is_named(gate: Gate, service: Service) -> None:
    response = await service.call("POST", "/v1/messages", raw=b"\xef\xbb\xbf{}")
    assert "byte order mark" in response.problem("malformed")["detail"]


async def test_an_expectation_that_is_not_understood_is_refused_like_everything_else(
    gate: Gate, service: Service
) -> None:
    ada = gate.person()
    refused = await service.send(message(ada), headers={"Expect": "miracles"})
    assert "100-continue" in refused.problem("malformed")["detail"]
    (await service.send(message(ada), headers={"Expect": "100-Continue"})).task(200)
    without_token = await service.call(
        "GET", "/v1/me", headers={"Expect": "miracles", "Authorization": "Bearer nonsense"}
    )
    without_token.problem("unauthenticated")


@pytest.mark.parametrize("what", UNREADABLE)
@pytest.mark.parametrize("path", ["/v1/messages", "/v1/questions", "/enqueue_command"])
async def test_a_body_that_cannot_be_read_is_malformed(
    gate: Gate, service: Service, path: str, what: str
) -> None:
    response = await service.call("POST", path, raw=UNREADABLE[what])
    assert "errors" not in response.problem("malformed")


UNUSABLE = {
    "an array": b"[]",
    "a string": b'"hello"',
    "a number": b"42",
    "null": b"null",
    "a NUL in a text": b'{"chat": 815, "text": "a\\u0000b"}',
    "a number of 100,000 digits": b'{"text": "a", "chat": ' + b"9" * 100_000 + b"}",
    "a number beyond all": b'{"text": "a", "chat": 1e400}',
    "a fraction": b'{"text": "a", "chat": 815.0}',
}


@pytest.mark.parametrize("what", UNUSABLE)
async def test_a_value_that_nobody_can_use_is_refused(gate: Gate, service: Service, what: str) -> None:
    for path in ("/v1/messages", "/v1/questions"):
        response = await service.call("POST", path, raw=UNUSABLE[what])
        assert response.document["code"] in {"malformed", "invalid"}, response.told()


async def test_a_body_over_one_mebibyte_is_too_large(gate: Gate, service: Service) -> None:
    fill = b" " * (1024 * 1024)
    (await service.call("POST", "/v1/messages", raw=b"{}" + fill)).problem("too_large")
    (await service.call("POST", "/enqueue_command", raw=b"{}" + fill)).problem("too_large")


async def test_a_body_of_just_one_mebibyte_is_read(gate: Gate, service: Service) -> None:
    ada = gate.person()
    body = json.dumps(message(ada)).encode().ljust(1024 * 1024)
    assert (await service.call("POST", "/v1/messages", raw=body)).task(200)["state"] == "sent"


@pytest.mark.parametrize(
    "kind",
    ["text/plain", "application/x-www-form-urlencoded", "application/xml", "", "json", "multipart/form-data"],
)
async def test_another_media_type_is_unsupported(gate: Gate, service: Service, kind: str) -> None:
    body = json.dumps(message(gate.person())).encode()
    response = await service.call("POST", "/v1/messages", raw=body, headers={"Content-Type": kind})
    response.problem("unsupported_media_type")


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "application/json;charset=UTF-8"])
async def test_json_in_utf_8_may_say_so(gate: Gate, service: Service, kind: str) -> None:
    body = json.dumps(message(gate.person())).encode()
    response = await service.call("POST", "/v1/messages", raw=body, headers={"Content-Type": kind})
    assert response.task(200)["state"] == "sent"


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd"])
async def test_a_compressed_body_is_refused(gate: Gate, service: Service, coding: str) -> None:
    body = json.dumps(message(gate.person())).encode()
    headers = {"Content-Encoding": coding}
    (await service.call("POST", "/v1/messages", raw=body, headers=headers)).problem("unsupported_media_type")


@pytest.mark.parametrize(
    "path", ["/", "/v1", "/v2/messages", "/v1/messages/", "/V1/me", "/admin", "/%00", "//"]
)
async def test_an_unknown_path_is_not_found_even_without_a_token(gate: Gate, path: str) -> None:
    (await gate.request("GET", path)).problem("not_found")


ALLOWED = {
    "/v1/messages": "POST",
    "/v1/questions": "POST",
    "/v1/me": "GET",
    "/healthz": "GET",
    "/telegram/webhook": "POST",
    "/enqueue_command": "POST",
    "/v1/tasks/tsk_01K3ZQ8T7M9V5B2N4C6D8F0G1H": "DELETE, GET",
    "/v1/messages/tsk_01K3ZQ8T7M9V5B2N4C6D8F0G1H": "DELETE, PATCH",
}


@pytest.mark.parametrize("path", ALLOWED)
async def test_an_unknown_method_is_told_the_ones_that_there_are(gate: Gate, path: str) -> None:
    response = await gate.request("PUT", path)
    response.problem("method_not_allowed")
    allowed = {method.strip() for method in response.headers["Allow"].split(",")}
    assert allowed - {"HEAD", "OPTIONS"} == set(ALLOWED[path].split(", "))


async def test_a_path_and_a_method_are_judged_before_an_expectation(gate: Gate, service: Service) -> None:
    headers = {"Expect": "miracles", "X-Request-Id": "expectation"}
    for path in ("/nowhere", "/v1/me/", "/a%0Ab"):
        response = await gate.request("GET", path, headers=headers)
        assert response.problem("not_found")["instance"] == "expectation"
        assert response.headers["X-Request-Id"] == "expectation"
        assert response.headers["Server"] == "telegate"
    response = await gate.request("PUT", "/v1/tasks", headers=headers)
    response.problem("method_not_allowed")
    assert response.headers["Allow"] == "DELETE, GET, HEAD"
    outside = await gate.request("GET", "/v1/me", headers={**headers, **FROM_OUTSIDE[0]})
    outside.problem("tls_required")
    (await service.with_roles("approver").get("/v1/tasks", headers=headers)).problem("forbidden")


# Parameters

TASK = "tsk_01K3ZQ8T7M9V5B2N4C6D8F0G1H"
WITHOUT_PARAMETERS = [
    "POST /v1/messages",
    f"PATCH /v1/messages/{TASK}",
    f"DELETE /v1/messages/{TASK}",
    "POST /v1/questions",
    f"GET /v1/tasks/{TASK}",
    f"GET /v1/tasks/{TASK}/events",
    f"DELETE /v1/tasks/{TASK}",
    "POST /v1/sweep",
    "GET /v1/me",
    "GET /v1/capabilities",
]


def body_for(method: str, path: str, chat: Json) -> Json:
    """What would be accepted there."""
    if method == "POST":
        return question(chat) if "questions" in path else message(chat)
    return {"text": "a"} if method == "PATCH" else None


@pytest.mark.parametrize("endpoint", WITHOUT_PARAMETERS)
async def test_a_parameter_that_nobody_knows_is_refused(gate: Gate, service: Service, endpoint: str) -> None:
    method, path = endpoint.split()
    ada = gate.person()
    body = body_for(method, path, ada)
    response = await service.call(method, f"{path}?x=1&a%2Fb=&x=2", body)
    assert response.pointers() == {"/x", "/a~1b"}
    assert len(response.document["errors"]) == 2
    (await service.call(method, f"{path}?%ED%A0%80", body)).problem("invalid")
    (await gate.request(method, f"{path}?x=1")).problem("unauthenticated")
    assert gate.sends(ada) == 0


async def test_every_parameter_of_a_list_that_nobody_knows_is_named_once(
    gate: Gate, service: Service
) -> None:
    response = await service.get("/v1/tasks?x=1&x=2&a%2Fb=&limit=5")
    assert [error["pointer"] for error in response.problem("invalid")["errors"]] == ["/x", "/a~1b"]


async def test_a_parameter_is_told_where_fields_are(gate: Gate, service: Service) -> None:
    path, body = "/v1/messages?x=1", message(gate.person())
    (await service.call("POST", path, raw=b"nonsense")).problem("malformed")
    (await service.call("POST", path, body, prefer="wait=x")).problem("malformed")
    (await service.with_roles("approver").call("POST", path, body)).problem("invalid")
    (await service.with_roles("reader").call("POST", path, body)).problem("forbidden")


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/openapi.json", "/metrics"])
async def test_what_is_probed_and_scraped_takes_any_parameter(
    gate: Gate, service: Service, path: str
) -> None:
    assert (await service.get(f"{path}?x=1")).status == 200


@pytest.mark.parametrize("path", ["/docs", "/v1/chats"])
async def test_what_is_not_built_says_so_whatever_the_parameters(
    gate: Gate, service: Service, path: str
) -> None:
    (await service.get(f"{path}?limit=5")).problem("not_built")


async def test_the_earlier_interface_takes_any_parameter(gate: Gate, service: Service) -> None:
    ada = gate.person()
    for command, arguments in (("message", message(ada)), ("question", question(ada))):
        body = {"command": command, "arguments": arguments}
        response = await service.call("POST", "/enqueue_command?x=1", body, prefer="respond-async")
        assert response.status in {200, 202}, response.told()


async def test_the_parameter_that_libraries_for_event_streams_add_is_taken(
    gate: Gate, service: Service
) -> None:
    sent = (await service.send(message(gate.person()))).task(200)
    path = f"/v1/tasks/{sent['id']}/events?lastEventId=1-x"
    assert (await service.get(path)).status == 200
    assert (await service.get(f"{path}&x=1")).pointers() == {"/x"}


# In which order


async def test_the_first_reason_to_refuse_is_the_one_that_is_told(gate: Gate, service: Service) -> None:
    ada = gate.person()
    reader, narrow = service.with_roles("reader"), service.with_roles("approver")
    wrong_type = {"Content-Type": "text/plain"}
    huge, nonsense, invalid = b"[" * (1024 * 1025), b"nonsense", b'{"chat": 1, "text": ""}'
    path = "/v1/messages"
    (await gate.request("PUT", path, data=huge)).problem("method_not_allowed")
    (await gate.request("POST", path, data=huge, headers=wrong_type)).problem("unauthenticated")
    (await reader.call("POST", path, raw=huge, headers=wrong_type)).problem("forbidden")
    (await narrow.call("POST", path, raw=huge, headers=wrong_type)).problem("unsupported_media_type")
    (await narrow.call("POST", path, raw=huge)).problem("too_large")
    (await narrow.call("POST", path, raw=nonsense)).problem("malformed")
    (await narrow.call("POST", path, raw=invalid)).problem("invalid")
    (await narrow.send(message(ada), prefer="wait=x")).problem("malformed")
    (await service.send(message(ada), key="k")).task(200)
    (await narrow.send(message(ada, "Other"), key="k")).problem("chat_forbidden")
    (await service.send(message(ada, "Other"), key="k")).problem("idempotency_mismatch")
    (await narrow.send(message("nowhere"))).problem("invalid")


# Plain HTTP

FROM_OUTSIDE: list[dict[str, str]] = [
    {"X-Forwarded-For": "203.0.113.7"},
    {"X-Forwarded-Proto": "https"},
    {"X-Forwarded-Proto": "http"},
    {"Forwarded": "for=203.0.113.7;proto=https"},
    {"X-Forwarded-Host": "bot.example.com"},
]


@pytest.mark.parametrize("headers", FROM_OUTSIDE)
async def test_plain_http_from_outside_is_refused_and_the_setting_is_named(
    gate: Gate, service: Service, headers: dict[str, str]
) -> None:
    for response in (
        await service.get("/v1/me", headers=headers),
        await gate.request("GET", "/openapi.json", headers=headers),
        await gate.request("POST", "/telegram/webhook", data=b"{}", headers=headers),
    ):
        assert "TRUSTED_PROXIES" in response.problem("tls_required")["detail"]


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_platforms_may_probe_in_plain_http(gate: Gate, path: str) -> None:
    assert (await gate.request("GET", path, headers=FROM_OUTSIDE[0])).status == 200


async def test_tls_is_asked_for_after_the_path_and_before_the_token(gate: Gate) -> None:
    (await gate.request("GET", "/nowhere", headers=FROM_OUTSIDE[0])).problem("not_found")
    (await gate.request("GET", "/v1/me", headers=FROM_OUTSIDE[0])).problem("tls_required")


async def test_a_trusted_router_s_word_counts_and_only_the_one_it_added(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    async with opened(tmp_path_factory.mktemp("router"), settings={"TRUSTED_PROXIES": "1"}) as gate:
        service = gate.service()
        for proto, status in (
            ("https", 200),
            ("HTTPS", 200),
            ("http, https", 200),
            ("http", 403),
            ("https, http", 403),
            ("", 403),
        ):
            headers = {"X-Forwarded-Proto": proto, "X-Forwarded-For": "203.0.113.7"}
            response = await service.get("/v1/me", headers=headers)
            assert response.status == status, (proto, response.told())
        (await service.get("/v1/me", headers={"X-Forwarded-For": "203.0.113.7"})).problem("tls_required")
        assert (await service.get("/v1/me")).status == 200
        await gate.end_test()


# Request ids


@pytest.mark.parametrize(
    "given", ["0af7651916cd43dd8448eb211c80319c", "b7ad6b71-6920-3331-8448-eb211c80319c"]
)
async def test_a_request_id_is_taken_over_when_it_is_well_formed(
    gate: Gate, service: Service, given: str
) -> None:
    assert (await service.get("/v1/me", headers={"X-Request-Id": given})).headers["X-Request-Id"] == given
    response = await gate.request("GET", "/nowhere", headers={"X-Request-Id": given})
    assert response.problem("not_found")["instance"] == given
    assert given in gate.server.log


@pytest.mark.parametrize(
    "given", ["", "a b c d e f g h", "x" * 2000, 'in"jected-id', "é" * 10, "<script>xxxx"]
)
async def test_a_request_id_that_is_not_well_formed_is_replaced(
    gate: Gate, service: Service, given: str
) -> None:
    response = await service.get("/v1/me", headers={"X-Request-Id": given})
    assert response.headers["X-Request-Id"] != given
    assert len(response.headers["X-Request-Id"]) >= 8


# Traces

TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.mark.parametrize(
    ("given", "known"),
    [
        (f"00-{TRACE}-b7ad6b7169203331-01", True),
        (f"cc-{TRACE}-b7ad6b7169203331-01-what-comes-later", True),
        (f"00-{TRACE}-b7ad6b7169203331-01-more", False),
        (f"ff-{TRACE}-b7ad6b7169203331-01", False),
        (f"00-{'0' * 32}-b7ad6b7169203331-01", False),
        (f"00-{TRACE}-{'0' * 16}-01", False),
        (f"00-{TRACE.upper()}-b7ad6b7169203331-01", False),
        (f"00-{TRACE}", False),
        ("", False),
    ],
)
async def test_the_log_names_the_trace_that_a_request_is_a_part_of(
    gate: Gate, service: Service, given: str, known: bool
) -> None:
    response = await service.get("/v1/me", headers={"traceparent": given})
    line = await gate.line_about(response.headers["X-Request-Id"])
    assert line.get("trace_id") == (TRACE if known else None)


async def test_a_trace_goes_on_with_the_task_and_not_with_the_connection(
    gate: Gate, service: Service
) -> None:
    told = {"traceparent": f"00-{TRACE[::-1]}-b7ad6b7169203331-01"}
    nobody = gate.person(started=False)
    task = (await service.send(message(nobody), headers=told)).headers["Location"].rpartition("/")[2]
    lines = [json.loads(line) for line in gate.server.log.splitlines() if task in line]
    calls = [line for line in lines if line["action"] == "telegram_call"]
    assert {line["trace_id"] for line in calls} == {TRACE[::-1]}
    without = await service.get("/v1/me")
    assert "trace_id" not in await gate.line_about(without.headers["X-Request-Id"])


async def test_two_requests_have_two_ids(gate: Gate) -> None:
    seen = {(await gate.request("GET", "/healthz")).headers["X-Request-Id"] for _ in range(5)}
    assert len(seen) == 5
