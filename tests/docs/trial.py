"""`telegate dev` as a process, a person who taps in its sandbox, and a shell for the commands of a page."""

from __future__ import annotations

import json
import os
import queue
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from tests.docs.pages import ROOT
from tests.ports import reserved_port

Json = Any
"""A JSON document, as it was received."""

LIMIT = 60.0
"""Seconds that anything may take on a busy machine."""

ADA = 815

directly = urllib.request.build_opener(urllib.request.ProxyHandler({})).open
"""Opens an address of this machine, whatever proxy the environment names."""


def call(url: str, body: object = None, method: str | None = None) -> Json:
    """A JSON document from a server of ours; a body makes it a POST."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(url, data, headers, method=method)  # noqa: S310 - an address of ours
    with directly(request, timeout=LIMIT) as response:
        return json.load(response)


@dataclass(slots=True)
class Shell:
    """Runs the commands of a page as a reader would: in bash, in a folder of its own, with `telegate`.

    Attributes:
        folder: where the commands run; a copy of permissions.yaml is there, as in a checkout.
        variables: what the page has set before.
    """

    folder: Path
    variables: dict[str, str] = field(default_factory=dict)

    @classmethod
    def prepare(cls, folder: Path, **variables: str) -> Shell:
        """Make the folder what a reader's checkout is to these commands."""
        programs = folder / "programs"
        programs.mkdir(parents=True)
        python = shlex.quote(sys.executable)
        for name, command in {"telegate": f"{python} -m infra", "python3": python}.items():
            program = programs / name
            program.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
            program.chmod(0o755)
        shutil.copy(ROOT / "permissions.yaml", folder)
        return cls(folder, dict(variables))

    @property
    def environment(self) -> dict[str, str]:
        """Made from nothing: the page's variables, and what Python and coverage need."""
        inherited = {name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")}
        path = f"{self.folder / 'programs'}:{os.environ['PATH']}"
        fixed = {"PATH": path, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "LANG": "C.UTF-8"}
        return {**inherited, **fixed, "HOME": str(self.folder), **self.variables}

    def run(self, commands: str, *, succeeds: bool = True) -> subprocess.CompletedProcess[str]:
        """Run commands; what they print and their exit code."""
        done = subprocess.run(
            ["bash", "-eu", "-o", "pipefail", "-c", commands],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )
        assert not succeeds or done.returncode == 0, f"{commands}\n{done.stdout}\n{done.stderr}"
        return done

    def begin(self, *command: str) -> subprocess.Popen[str]:
        """Start a program, without waiting for it."""
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


@dataclass(slots=True)
class Output:
    """What a process prints, line by line, without ever blocking it."""

    lines: queue.Queue[str] = field(default_factory=queue.Queue)
    seen: str = ""

    @classmethod
    def of(cls, stream: IO[str]) -> Output:
        """Begin to read a stream; an empty line is its end."""
        output = cls()

        def read() -> None:
            for line in stream:
                output.lines.put(line)
            output.lines.put("")

        threading.Thread(target=read, daemon=True).start()
        return output

    def until(self, words: str) -> str:
        """Everything printed up to the line that has these words."""
        while words not in self.seen:
            line = self.lines.get(timeout=LIMIT)
            assert line, f"The program ended before it said {words!r}:\n{self.seen}"
            self.seen += line
        return self.seen


@dataclass(frozen=True, slots=True)
class Trial:
    """A running `telegate dev`.

    Attributes:
        guide: what it printed.
        sandbox: the address of its chat page, without a slash at the end.
        shell: with `URL` and `TOKEN` set, as the tutorial sets them.
    """

    guide: str
    sandbox: str
    shell: Shell

    @property
    def url(self) -> str:
        """Where the gateway is."""
        return self.shell.variables["URL"]

    @property
    def curl(self) -> str:
        """The command that the guide offers."""
        return self.guide[self.guide.index("curl ") :].split("\n\n")[0]

    def api(self, method: str, path: str, body: object = None, **headers: str) -> tuple[int, Json]:
        """A request of the demo service: status and document."""
        data = None if body is None else json.dumps(body).encode()
        url = self.url + path
        request = urllib.request.Request(url, data, method=method)  # noqa: S310 - an address of ours
        request.add_header("Authorization", f"Bearer {self.shell.variables['TOKEN']}")
        request.add_header("Content-Type", "application/json")
        for name, value in headers.items():
            request.add_header(name.replace("_", "-"), value)
        try:
            with directly(request, timeout=LIMIT) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def next_question(self, after: int = 0) -> Json:
        """The bot's next message to Ada that has buttons."""
        answer = call(f"{self.sandbox}/sandbox/messages?chat={ADA}&after={after}&wait={LIMIT:.0f}")
        return next(one for one in answer["messages"] if one.get("reply_markup"))

    def last_message(self) -> int:
        """The number of the last message in Ada's chat."""
        messages = call(f"{self.sandbox}/sandbox/messages?chat={ADA}")["messages"]
        return max((int(one["message_id"]) for one in messages), default=0)

    def tap(self, question: Mapping[str, Any], label: str) -> None:
        """Ada taps a button."""
        press = {"person": ADA, "chat": ADA, "message": question["message_id"], "button": label}
        call(f"{self.sandbox}/sandbox/presses", press)

    @contextmanager
    def tapping(self, label: str, delay: float = 0.0) -> Iterator[None]:
        """Ada taps this button under every question that comes meanwhile."""
        script = {"person": ADA, "answer": label, "delay": delay}
        number = call(f"{self.sandbox}/sandbox/scripts", script)["number"]
        yield
        assert call(f"{self.sandbox}/sandbox/scripts/{number}", method="DELETE")["answered"] >= 1


@contextmanager
def running(folder: Path) -> Iterator[Trial]:
    """Start `telegate dev` on free ports; at the end Ctrl-C, and it has to end well."""
    shell = Shell.prepare(folder)
    ports = ("--port", str(reserved_port()), "--sandbox-port", str(reserved_port()))
    with shell.begin(sys.executable, "-m", "infra", "dev", *ports) as process:
        assert process.stdout is not None
        try:
            guide = Output.of(process.stdout).until("Ctrl-C")
            page, gateway = re.findall(r"http://127\.0\.0\.1:\d+", guide)
            token = re.search(r"Bearer (eyJ[\w.-]+)", guide)
            assert token is not None, guide
            shell.variables.update(URL=gateway, TOKEN=token[1])
            yield Trial(guide, page, shell)
        finally:
            code = stop(process, signal.SIGINT)
    assert code == 0


def stop(process: subprocess.Popen[str], number: signal.Signals = signal.SIGTERM) -> int:
    """End a process; its exit code. One that does not end is killed, and the test fails."""
    process.send_signal(number)
    try:
        return process.wait(LIMIT)
    except subprocess.TimeoutExpired:
        process.kill()
        raise


def assert_includes(actual: Json, shown: Json, where: str = "") -> None:
    """Whether a document has everything that a page shows of it; ids and times are only alike."""
    if isinstance(shown, dict):
        assert isinstance(actual, dict), where
        for name, value in shown.items():
            assert name in actual, f"{where}/{name} is not there."
            assert_includes(actual[name], value, f"{where}/{name}")
    elif isinstance(shown, list) and isinstance(actual, list):
        assert len(actual) == len(shown), where
        for index, value in enumerate(shown):
            assert_includes(actual[index], value, f"{where}/{index}")
    elif isinstance(shown, str) and re.match(r"(tsk|req)_|\d{4}-\d\d-\d\dT", shown):
        assert isinstance(actual, str), where
        assert re.sub(r"\w", "x", actual)[:4] == re.sub(r"\w", "x", shown)[:4], where
    else:
        assert actual == shown, where
