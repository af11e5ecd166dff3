"""The rules of the house: imports, docstrings, lengths, statuses, permissions, and the drawn state graph."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer, make_mocked_request

from core.metrics import SLOW, Exposition, Histogram
from core.model import errors
from core.model.errors import TelegateError, Unauthenticated
from core.model.readiness import Readiness
from core.model.transition import FINAL_STATES, TRANSITIONS
from core.model.update import Ignored
from core.policy.policy import Principal
from core.policy.rate_limit import ServiceRates
from core.policy.routes import ENDPOINTS, FOR_EVERY_SERVICE, PUBLIC
from handlers.admission import refuse_unknown
from handlers.application import build_application
from handlers.keys import About, Metrics, RequestLimits, Services
from handlers.problems import PROBLEMS, PROBLEMS_BY_CODE, problem_of
from tests.fakes.clock import START
from tests.fakes.world import World

HOUSE = Path(__file__).parent.parent
PACKAGES = ("core", "handlers", "infra")
MODULES = sorted(path for package in PACKAGES for path in (HOUSE / package).rglob("*.py"))
NAMES = [str(path.relative_to(HOUSE)) for path in MODULES]

RUN_AT_IMPORT = ("__main__", "gunicorn")
"""What Python or gunicorn executes: importing it starts something."""

TOO_LONG = 45
"""Lines. A function as long as this has two thoughts."""


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


# Who may import whom


def test_the_import_contracts_are_kept() -> None:
    command = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([command, "--no-cache"], cwd=HOUSE, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} line {node.lineno} imports relatively."
            yield node.module or ""


@pytest.mark.parametrize(
    ("package", "allowed"),
    [
        ("core", {"core"}),
        # pydantic takes a TypedDict from typing_extensions only, before Python 3.12.
        ("handlers", {"core", "handlers", "aiohttp", "pydantic", "pydantic_core", "typing_extensions"}),
    ],
)
def test_a_package_imports_only_what_its_place_allows(package: str, allowed: set[str]) -> None:
    everything = allowed | sys.stdlib_module_names
    for path in (HOUSE / package).rglob("*.py"):
        for name in imported(path):
            assert name.partition(".")[0] in everything, f"{path} imports {name}."


def test_only_the_composition_root_knows_handlers() -> None:
    knowing = {
        path.relative_to(HOUSE).as_posix()
        for path in (HOUSE / "infra").rglob("*.py")
        if any(name.partition(".")[0] == "handlers" for name in imported(path))
    }
    assert knowing <= {"infra/app.py"}


# How it is written


@pytest.mark.parametrize("path", MODULES, ids=NAMES)
def test_every_module_says_in_a_sentence_what_it_is_for(path: Path) -> None:
    said = ast.get_docstring(parsed(path)) or ""
    first = " ".join(said.partition("\n\n")[0].split())
    assert len(first.split()) >= 3, "It says nothing."
    assert first.endswith((".", ":")), f"This is no sentence: {first}"


@pytest.mark.parametrize("path", MODULES, ids=NAMES)
def test_no_module_is_a_drawer_for_everything(path: Path) -> None:
    drawers = {"utils", "util", "common", "helpers", "helper", "managers", "manager", "misc"}
    assert not drawers & set(path.relative_to(HOUSE).with_suffix("").parts)


def lengths(package: str) -> Iterator[tuple[int, str]]:
    """How many lines each function has, its docstring not counted."""
    for path in (HOUSE / package).rglob("*.py"):
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if ast.get_docstring(node) is not None:
                    length -= (node.body[0].end_lineno or 0) - node.body[0].lineno + 1
                yield length, f"{path.relative_to(HOUSE)}:{node.lineno} {node.name}"


@pytest.mark.parametrize("package", PACKAGES)
def test_functions_are_short(package: str) -> None:
    too_long = [(length, name) for length, name in lengths(package) if length > TOO_LONG]
    assert not too_long, f"Longer than {TOO_LONG} lines."


# Errors


def family(root: type[TelegateError]) -> Iterator[type[TelegateError]]:
    yield root
    for child in root.__subclasses__():
        yield from family(child)


@pytest.fixture(scope="module")
def errors_of_the_house() -> frozenset[type[TelegateError]]:
    """Every error of the family, wherever it is written."""
    for package in PACKAGES:
        for module in pkgutil.walk_packages([str(HOUSE / package)], f"{package}."):
            if module.name.rpartition(".")[2] not in RUN_AT_IMPORT:
                importlib.import_module(module.name)
    return frozenset(
        error for error in family(TelegateError) if error.__module__.partition(".")[0] in PACKAGES
    )


def test_every_error_of_the_core_with_a_code_of_its_own_has_a_status_of_its_own() -> None:
    of_the_core = {error for error in family(TelegateError) if error.__module__ == errors.__name__}
    assert {error for error in of_the_core if "code" in vars(error)} == set(PROBLEMS)


def test_every_code_is_one_error_s_and_has_a_title() -> None:
    assert len(PROBLEMS_BY_CODE) == len(PROBLEMS)
    assert all(problem.title for problem in PROBLEMS.values())


def test_every_error_anywhere_has_a_code_with_a_status(
    errors_of_the_house: frozenset[type[TelegateError]],
) -> None:
    unknown = {error.__qualname__ for error in errors_of_the_house if error.code not in PROBLEMS_BY_CODE}
    assert unknown == set()


def test_an_error_s_status_by_its_class_is_the_one_by_its_code(
    errors_of_the_house: frozenset[type[TelegateError]],
) -> None:
    statuses = {
        error.__qualname__: (problem_of(error).status, PROBLEMS_BY_CODE[error.code].status)
        for error in errors_of_the_house
    }
    assert {name: both for name, both in statuses.items() if len(set(both)) > 1} == {}


def codes_of_failures() -> Iterator[str]:
    """The codes that tasks can fail with, as far as they are written out."""
    for path in MODULES:
        for node in ast.walk(parsed(path)):
            match node:
                case ast.Call(func=ast.Name("Failure"), args=[ast.Constant(str(code)), *_]):
                    yield code


def test_whatever_a_task_can_fail_with_has_a_status() -> None:
    assert "outcome_unknown" in set(codes_of_failures()) <= set(PROBLEMS_BY_CODE)


# Routes


def services() -> Services:
    gateway = World().start()

    def nobody(_token: str) -> Principal:
        raise Unauthenticated("This token does not count.")

    async def readiness() -> Readiness:
        return Readiness(ready=True, checks={}, waiters=0)

    async def expose(_accept: str) -> Exposition:
        return Exposition("text/plain", b"")

    return Services(
        questions=gateway.questions,
        messages=gateway.messages,
        tasks=gateway.tasks,
        inbox=gateway.inbox,
        authenticate=nobody,
        policy=lambda: gateway.world.policy,
        rates=ServiceRates(lambda: 0.0),
        parse_update=lambda _body: Ignored(1, "a test"),
        webhook_secret=b"a secret of the webhook",
        readiness=readiness,
        sweep=gateway.scheduler.sweep,
        clock=gateway.world.clock,
        limits=RequestLimits(),
        about=About("0.0.0", "permanent", None),
        metrics=Metrics(Histogram(SLOW), expose),
    )


def routes(app: web.Application) -> Iterator[str]:
    for route in app.router.routes():
        if route.method != "HEAD" and route.handler is not refuse_unknown:
            assert route.resource is not None
            yield f"{route.method} {route.resource.canonical}"


def test_every_route_has_exactly_one_permission() -> None:
    named = [*ENDPOINTS, *FOR_EVERY_SERVICE, *PUBLIC]
    assert sorted(routes(build_application(services()))) == sorted(named)
    assert len(named) == len(set(named))


def test_what_is_no_route_leads_to_a_refusal_whatever_the_method() -> None:
    for route in build_application(services()).router.routes():
        assert (route.handler is refuse_unknown) == (route.method == "*"), route


async def test_nothing_is_served_should_the_check_of_paths_ever_be_left_out() -> None:
    with pytest.raises(RuntimeError, match="/nowhere has got past"):
        await refuse_unknown(make_mocked_request("GET", "/nowhere"))


@pytest.mark.parametrize("endpoint", [*ENDPOINTS, *FOR_EVERY_SERVICE])
async def test_without_a_token_nothing_that_needs_one_answers(endpoint: str) -> None:
    method, _, path = endpoint.partition(" ")
    async with TestClient(TestServer(build_application(services()))) as client:
        for headers in ({}, {"Authorization": "Bearer guessed"}):
            response = await client.request(method, re.sub(r"\{\w+\}", "1", path), headers=headers)
            assert response.status == 401
            assert response.headers["WWW-Authenticate"].startswith("Bearer")


# The state graph


def drawn() -> set[tuple[str, str]]:
    page = (HOUSE / "docs" / "explanation" / "architecture.md").read_text(encoding="utf-8")
    graph = re.search(r"```mermaid\nstateDiagram-v2\n(.*?)```", page, re.DOTALL)
    assert graph is not None, "The page has no state diagram."
    return set(re.findall(r"^ *(\S+) --> (\S+) *$", graph.group(1), re.MULTILINE))


def test_the_drawn_state_graph_is_the_one_of_the_code() -> None:
    steps = {(str(source), str(target)) for source, targets in TRANSITIONS.items() for target in targets}
    assert {step for step in drawn() if "[*]" not in step} == steps


def test_the_drawn_beginning_and_ends_are_those_of_the_code() -> None:
    assert {source for source, target in drawn() if target == "[*]"} == {str(state) for state in FINAL_STATES}
    first = World().start().factory.reply(815, None, 1, START)("Hello")
    beginnings = {str(first.state), str(first.waiting().state)}
    assert {target for source, target in drawn() if source == "[*]"} == beginnings == {"sending", "queued"}
