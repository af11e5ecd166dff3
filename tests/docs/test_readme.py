"""README's first screen is what a reader gets."""

from __future__ import annotations

import json
import shlex
import subprocess

import pytest
from click import Option

from infra.cli import dev
from tests.docs.pages import ROOT, Page
from tests.docs.trial import LIMIT, Json, Trial, assert_includes, call, directly

README = Page("README.md")


def _question() -> str:
    (found,) = [block.text for block in README.blocks("sh") if block.text.startswith("curl")]
    return found


def test_the_question_of_the_readme_is_the_one_that_make_run_prints(trial: Trial) -> None:
    ours, printed = shlex.split(_question()), shlex.split(trial.curl)
    token = "Authorization: Bearer "
    assert [word for word in ours if not word.startswith(("http", token))] == [
        word for word in printed if not word.startswith(("http", token))
    ]
    assert "http://127.0.0.1:8080/v1/questions" in ours
    defaults = {one.name: one.default for one in dev.command.params if isinstance(one, Option)}
    assert defaults["port"] == 8080


def test_a_tap_in_the_chat_page_ends_the_command_with_the_answer_of_the_readme(trial: Trial) -> None:
    before = trial.last_message()
    asking = trial.shell.begin("bash", "-c", trial.curl)
    question = trial.next_question(before)
    assert question["text"] == "Build 1234 is green. Deploy it?"
    trial.tap(question, "Deploy")
    printed, _ = asking.communicate(timeout=LIMIT)
    (shown,) = README.blocks("json")
    assert_includes(json.loads(printed), json.loads(shown.text))


def _edit_of(number: int, trial: Trial) -> Json:
    """How this message was edited; the answer to a request may come before its message shows the outcome."""
    seen = 0
    while True:
        log = f"{trial.sandbox}/sandbox/calls?method=editMessageText&after={seen}&wait={LIMIT:.0f}"
        for edit in (edits := call(log)["calls"]):
            if edit["parameters"]["message_id"] == number:
                return edit["parameters"]
        assert edits, f"Message {number} was not edited within {LIMIT:.0f} s."
        seen = edits[-1]["number"]


def test_the_message_then_says_who_chose_what_and_has_no_buttons(trial: Trial) -> None:
    with trial.tapping("Deploy"):
        (number,) = json.loads(trial.shell.run(trial.curl).stdout)["message_ids"]
    parameters = _edit_of(number, trial)
    assert "Ada Lovelace chose “Deploy”" in parameters["text"]
    assert "inline_keyboard" not in json.dumps(parameters)


def test_the_address_that_make_run_prints_is_the_chat_page(trial: Trial) -> None:
    with directly(trial.sandbox + "/", timeout=LIMIT) as page:
        assert "<title>" in page.read().decode()


@pytest.mark.parametrize("target", ["run", "test", "check", "format", "bench", "clean", "help"])
def test_make_has_the_target(target: str) -> None:
    done = subprocess.run(
        ["make", "-n", target], cwd=ROOT, capture_output=True, text=True, timeout=LIMIT, check=False
    )
    assert done.returncode == 0, done.stderr
    if target == "run":
        assert "-m infra dev" in done.stdout


def test_the_picture_is_there() -> None:
    (picture,) = [link for link in README.links if link.endswith(".png")]
    assert (ROOT / picture).read_bytes().startswith(b"\x89PNG"), picture
