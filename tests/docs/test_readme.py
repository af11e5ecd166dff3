"""README's first screen is what a reader gets."""

from __future__ import annotations

import json
import shlex
import subprocess

import pytest
from click import Option

from infra.cli import dev
from tests.docs.pages import ROOT, Page
from tests.docs.trial import LIMIT, Trial, assert_includes, call, directly

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


def test_the_message_then_says_who_chose_what_and_has_no_buttons(trial: Trial) -> None:
    log = f"{trial.sandbox}/sandbox/calls"
    before = call(log)["total"]
    with trial.tapping("Deploy"):
        trial.shell.run(trial.curl)
    edits = call(f"{log}?method=editMessageText&after={before}&wait={LIMIT:.0f}")["calls"]
    parameters = edits[-1]["parameters"]
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
