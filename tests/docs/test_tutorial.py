"""Whoever follows the tutorial sees what it says, in the order of its steps."""

from __future__ import annotations

import json
import re

from click import Option

from infra.cli import dev
from tests.docs.pages import Page
from tests.docs.trial import Json, Trial, assert_includes

TUTORIAL = Page("docs/tutorial.md")

(_, SETTINGS, WHO, ASK, PATIENT, SAY, CORRECT, EXPIRE, REFUSED) = [
    block.text for block in TUTORIAL.blocks("sh")
]
SHOWN = [json.loads(block.text) for block in TUTORIAL.blocks("json")]


def _answer(trial: Trial, commands: str) -> Json:
    return json.loads(trial.shell.run(commands).stdout)


def test_the_addresses_are_those_of_make_run() -> None:
    defaults = {one.name: one.default for one in dev.command.params if isinstance(one, Option)}
    assert f"URL=http://127.0.0.1:{defaults['port']}\nTOKEN='eyJ…'\n" == SETTINGS
    assert f"http://127.0.0.1:{defaults['sandbox_port']}/" in TUTORIAL.blocks("text")[0].text


def test_the_start_looks_as_shown(trial: Trial) -> None:
    shown = re.sub(r":\d+/", ":", TUTORIAL.blocks("text")[0].text)
    assert re.sub(r":\d+/", ":", trial.guide).strip().startswith(shown.strip())


def test_the_token_is_that_of_the_demo_service(trial: Trial) -> None:
    assert_includes(_answer(trial, WHO), SHOWN[0])


def test_a_tap_answers_the_question(trial: Trial) -> None:
    with trial.tapping("Deploy"):
        assert_includes(_answer(trial, ASK), SHOWN[1])


def test_the_same_key_attaches_to_the_open_question(trial: Trial) -> None:
    before = trial.last_message()
    first = trial.shell.run(PATIENT).stdout
    for line in TUTORIAL.blocks("text")[1].text.splitlines():
        assert line.partition("/v1/tasks/tsk_")[0] in first, line
    question = trial.next_question(before)
    again = trial.shell.begin("bash", "-c", PATIENT)
    trial.tap(question, "Deploy")
    second, _ = again.communicate()
    third = trial.shell.run(PATIENT).stdout
    task = json.loads(third.partition("\n\n")[2])
    for answered in (second, third):
        assert answered.startswith("HTTP/1.1 200 OK")
        assert f"Location: /v1/tasks/{task['id']}" in answered
    assert task["id"] in first
    assert task["answer"]["choice"] == "deploy"
    assert trial.last_message() == question["message_id"]


def test_a_message_is_sent_corrected_and_taken_back(trial: Trial) -> None:
    assert _answer(trial, SAY)["state"] == "sent"
    decoder = json.JSONDecoder()
    printed = trial.shell.run(CORRECT).stdout
    edit, end = decoder.raw_decode(printed)
    deletion, _ = decoder.raw_decode(printed[end:].lstrip())
    assert [(one["kind"], one["state"]) for one in (edit, deletion)] == [
        ("edit", "sent"),
        ("deletion", "sent"),
    ]
    assert edit["of"] == deletion["of"]


def test_a_question_that_nobody_answers_ends_as_it_says(trial: Trial) -> None:
    assert_includes(_answer(trial, EXPIRE), SHOWN[2])


def test_everything_that_is_wrong_is_told_at_once(trial: Trial) -> None:
    assert_includes(_answer(trial, REFUSED), SHOWN[3])
