"""docs/how-to/follow-a-task.md does what it says."""

from __future__ import annotations

import json
import sys

from tests.docs.pages import Page
from tests.docs.trial import LIMIT, Output, Trial

PAGE = Page("docs/how-to/follow-a-task.md")


def test_curl_shows_the_task_up_to_its_end(trial: Trial) -> None:
    (block,) = PAGE.blocks("sh")
    with trial.tapping("Yes", delay=1.0):
        told = trial.shell.run(block.text).stdout
    tasks = [
        json.loads(line.removeprefix("data: ")) for line in told.splitlines() if line.startswith("data: ")
    ]
    assert [tasks[0]["state"] in {"sending", "asked"}, tasks[-1]["state"]] == [True, "answered"]
    assert tasks[-1]["answer"]["choice"] == "yes"
    assert told.startswith("retry: ")


def test_the_program_prints_each_state_and_ends_with_the_task(trial: Trial) -> None:
    (program,) = PAGE.blocks("python")
    (trial.shell.folder / "follow.py").write_text(program.text)
    question = {"chat": "ada", "text": "Deploy?", "options": [{"id": "yes", "label": "Yes"}]}
    before = trial.last_message()
    _, task = trial.api("POST", "/v1/questions", question, Prefer="respond-async")
    path = f"/v1/tasks/{task['id']}"
    with trial.shell.begin(sys.executable, "follow.py", path) as following:
        assert following.stdout is not None
        try:
            output = Output.of(following.stdout)
            output.until("asked")
            trial.tap(trial.next_question(before), "Yes")
            output.until("answered Yes")
            assert following.wait(LIMIT) == 0
        finally:
            following.kill()
    again = trial.shell.run(f"python3 follow.py {path}")
    assert again.stdout == "answered Yes\n"
    refused = trial.shell.run("python3 follow.py /v1/tasks/tsk_nothing", succeeds=False)
    assert refused.returncode == 1
    assert "not_found" in refused.stderr


def test_nobody_but_the_standard_library_is_needed() -> None:
    (program,) = PAGE.blocks("python")
    names = {
        line.split()[1].partition(".")[0] for line in program.text.splitlines() if line.startswith("import ")
    }
    assert names <= sys.stdlib_module_names
    compile(program.text, "follow.py", "exec")
