"""The programs of docs/how-to/ask-from-ci.md ask once, survive what they say, and exit as told."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import pytest

from tests.docs.pages import Page
from tests.docs.trial import Shell, Trial

PAGE = Page("docs/how-to/ask-from-ci.md")

ANSWERED: Final = {
    "state": "answered",
    "answer": {"choice": "deploy", "label": "Deploy", "by": {"id": 815, "name": "Ada Lovelace"}},
}
TASK: Final = {"Location": "/v1/tasks/tsk_01M825QQPR7YT0ZJ3SD08RHHRN"}
AT_ONCE: Final = {"Retry-After": "0"}


@dataclass(frozen=True, slots=True)
class Program:
    """One of the page's programs, and what it takes to run it."""

    language: str
    file: str
    command: tuple[str, ...]
    needs: tuple[str, ...]
    pause: tuple[str, str]

    def write(self, folder: Path) -> None:
        """The program as the page has it, but for the pause when nobody said how long."""
        (block,) = PAGE.blocks(self.language)
        assert self.file in block.text
        assert block.text.count(self.pause[0]) == 1
        (folder / self.file).write_text(block.text.replace(*self.pause))


PROGRAMS = (
    Program("bash", "ask.sh", ("bash", "ask.sh"), ("curl", "jq"), ("${pause:-3}", "${pause:-0}")),
    Program("python", "ask.py", ("python3", "ask.py"), (), ('"Retry-After", 3', '"Retry-After", 0')),
    Program("js", "ask.mjs", ("node", "ask.mjs"), ("node",), ("?? 3", "?? 0")),
)


@dataclass(slots=True)
class Asker:
    """A program, ready to be run."""

    program: Program
    shell: Shell

    def run(self, url: str, token: str = "a-token") -> subprocess.CompletedProcess[str]:
        """Ask; the exit code and what was printed."""
        self.shell.variables = {"TELEGATE_URL": url, "TELEGATE_TOKEN": token, "RUN_ID": "4711"}
        return self.shell.run(" ".join(self.program.command), succeeds=False)


@pytest.fixture(params=PROGRAMS, ids=lambda program: program.file)
def asker(request: pytest.FixtureRequest, tmp_path: Path) -> Asker:
    program: Program = request.param
    for tool in program.needs:
        if shutil.which(tool) is None:
            pytest.skip(f"This machine has no {tool}.")
    shell = Shell.prepare(tmp_path / "ci")
    program.write(shell.folder)
    return Asker(program, shell)


# A gateway with a script


@dataclass(frozen=True, slots=True)
class Reply:
    """What the scripted gateway answers; status 0 hangs up."""

    status: int
    document: object = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Gateway:
    """Answers as its script says, and remembers what it was asked."""

    url: str
    replies: list[Reply]
    keys: list[str | None] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)


@contextmanager
def gateway(*replies: Reply) -> Iterator[Gateway]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            scripted.keys.append(self.headers["Idempotency-Key"])
            scripted.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            reply = scripted.replies.pop(0)
            if reply.status:
                self._answer(reply)
            self.close_connection = True

        def _answer(self, reply: Reply) -> None:
            told = reply.document
            body = told.encode() if isinstance(told, str) else json.dumps(told).encode()
            self.send_response(reply.status)
            for name, value in {**reply.headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    scripted = Gateway(f"http://127.0.0.1:{server.server_port}", list(replies))
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield scripted
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_it_repeats_the_same_question_until_the_answer_is_final(asker: Asker) -> None:
    rough = (
        Reply(0),
        Reply(503, {"code": "storage_unavailable", "detail": "Later."}, AT_ONCE),
        Reply(502, "<html>Bad gateway</html>"),
        Reply(429, {"code": "rate_limited", "detail": "Later."}, AT_ONCE),
        Reply(202, {"state": "asked", "answer": None}, {**TASK, **AT_ONCE}),
        Reply(200, ANSWERED, TASK),
    )
    with gateway(*rough) as scripted:
        done = asker.run(scripted.url)
    assert (done.returncode, done.stdout) == (0, "answered: Deploy, Ada Lovelace\n"), done.stderr
    assert scripted.keys == ["deploy-4711"] * len(rough)
    assert len({json.dumps(json.loads(body), sort_keys=True) for body in scripted.bodies}) == 1


def test_nobody_s_answer_is_not_a_yes(asker: Asker) -> None:
    with gateway(Reply(200, {"state": "expired", "answer": None}, TASK)) as scripted:
        done = asker.run(scripted.url)
    assert (done.returncode, done.stdout) == (1, "expired: no answer, nobody\n"), done.stderr


@pytest.mark.parametrize("status", [422, 503, 504])
def test_a_task_that_ended_badly_is_not_asked_again(asker: Asker, status: int) -> None:
    with gateway(Reply(status, {"detail": "It ended badly.", "task": {}}, TASK)) as scripted:
        done = asker.run(scripted.url)
    assert (done.returncode, done.stderr.strip()) == (2, "It ended badly.")
    assert len(scripted.keys) == 1


def test_what_is_wrong_with_the_request_is_told(asker: Asker) -> None:
    wrong = {"detail": "One field does not validate.", "errors": [{"pointer": "/chat", "detail": "No."}]}
    with gateway(Reply(422, wrong)) as scripted:
        done = asker.run(scripted.url)
    assert (done.returncode, done.stderr) == (2, "One field does not validate.\n/chat: No.\n")
    assert len(scripted.keys) == 1


# The real one


@pytest.mark.parametrize(("label", "code"), [("Deploy", 0), ("No", 1)])
def test_the_person_s_tap_decides(asker: Asker, trial: Trial, label: str, code: int) -> None:
    token = trial.shell.variables["TOKEN"]
    file = asker.shell.folder / asker.program.file
    key = f"{asker.program.file}-{label}-"
    file.write_text(file.read_text().replace("deploy-$", f"{key}$").replace("deploy-{", f"{key}{{"))
    with trial.tapping(label):
        done = asker.run(trial.url, token)
    assert (done.returncode, done.stdout) == (code, f"answered: {label}, Ada Lovelace\n"), done.stderr
