"""What comes from outside: every file is known by its hash, every package is looked up among advisories."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

HOUSE = Path(__file__).parent.parent
LOCK = tomllib.loads((HOUSE / "uv.lock").read_text(encoding="utf-8"))
PROJECT = tomllib.loads((HOUSE / "pyproject.toml").read_text(encoding="utf-8"))
PACKAGES: dict[str, dict[str, Any]] = {package["name"]: package for package in LOCK["package"]}
[OWN] = [package for package in LOCK["package"] if package["source"] == {"editable": "."}]
OUTSIDERS = [package for package in LOCK["package"] if package is not OWN]
REGISTRY = {"registry": "https://pypi.org/simple"}
PACKAGE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def names(wanted: list[str]) -> set[str]:
    """The packages that requirements name, spelled as a lock file spells them (PEP 503)."""
    found = (PACKAGE_NAME.match(one) for one in wanted)
    return {re.sub(r"[-_.]+", "-", match[0]).lower() for match in found if match}


def locked(dependencies: list[dict[str, Any]]) -> set[str]:
    return {dependency["name"] for dependency in dependencies}


def test_every_file_of_every_package_is_locked_by_its_hash() -> None:
    assert len(OUTSIDERS) > len(PROJECT["project"]["dependencies"])
    for package in OUTSIDERS:
        assert package["source"] == REGISTRY, package["name"]
        files = [*package.get("wheels", ()), *([package["sdist"]] if "sdist" in package else ())]
        assert files, package["name"]
        for file in files:
            assert re.fullmatch(r"sha256:[0-9a-f]{64}", file["hash"]), file["url"]
            assert file["url"].startswith("https://files.pythonhosted.org/"), file["url"]


def test_the_lock_is_about_this_project_and_nothing_else_is_in_it() -> None:
    assert locked(OWN["dependencies"]) == names(PROJECT["project"]["dependencies"])
    assert locked(OWN["dev-dependencies"]["dev"]) == names(PROJECT["dependency-groups"]["dev"])
    reached = {OWN["name"]}
    ahead = locked(OWN["dependencies"]) | locked(OWN["dev-dependencies"]["dev"])
    while ahead:
        package = PACKAGES[ahead.pop()]
        reached.add(package["name"])
        extras = [one for more in package.get("optional-dependencies", {}).values() for one in more]
        ahead |= locked([*package.get("dependencies", ()), *extras]) - reached
    assert reached == set(PACKAGES)


def test_all_tests_are_run_behind_the_lock_and_the_audit() -> None:
    # What make would do, and in which order; with -n it does nothing.
    done = subprocess.run(
        ["make", "-n", "test"],
        cwd=HOUSE,
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin:/bin"},
    )
    assert done.returncode == 0, done.stderr
    at = [done.stdout.find(step) for step in ("lock --check", "pip-audit --local", "coverage run -m pytest")]
    assert -1 not in at
    assert at == sorted(at)


def test_the_environment_is_built_from_the_lock_alone() -> None:
    recipe = (HOUSE / "Makefile").read_text(encoding="utf-8")
    builds = re.findall(r"uv sync .*", recipe)
    assert builds
    assert all("--frozen" in build for build in builds)


def test_ci_runs_what_developers_run() -> None:
    assert (HOUSE / ".ci" / "run").read_text(encoding="utf-8").splitlines()[-1] == "exec make test"


ANSWERS = {
    "clean": ("No known vulnerabilities found", 0),
    "an advisory": ("Found 1 known vulnerability in 1 package\nidna 3.6 PYSEC-2024-60", 1),
    "one is unknown": ("idna  Dependency not found on PyPI and could not be audited: idna (3.6)", 0),
    "nobody answers": ("requests.exceptions.ConnectionError: Max retries exceeded", 1),
}


def beside(folder: Path) -> list[str]:
    return [f"AUDITED={folder / 'audited'}", f"AUDIT_OUTCOME={folder / 'outcome'}"]


def made(folder: Path, target: str, answer: str) -> subprocess.CompletedProcess[str]:
    """What `make` says when the advisory service says this."""
    told, code = ANSWERS[answer]
    auditor = folder / "pip-audit"
    auditor.write_text(f"#!/bin/sh\ncat <<'END'\n{told}\nEND\nexit {code}\n")
    auditor.chmod(0o755)
    return subprocess.run(
        ["make", "-s", target, f"AUDITOR={auditor}", *beside(folder)],
        cwd=HOUSE,
        capture_output=True,
        text=True,
        check=False,
    )


def test_an_audit_tells_clean_from_an_advisory_and_from_not_checked(tmp_path: Path) -> None:
    unchecked = made(tmp_path, "audit", "nobody answers")
    assert "Error 3" in unchecked.stderr
    assert "cannot open" not in unchecked.stderr
    assert "NOTHING could be checked" in unchecked.stdout
    assert unchecked.stdout.endswith("There was no good answer yet.\n")
    found = made(tmp_path, "audit", "an advisory")
    assert "Error 1" in found.stderr
    assert "PYSEC-2024-60" in found.stdout
    assert not (tmp_path / "audited").exists()
    clean = made(tmp_path, "audit", "clean")
    assert (clean.returncode, clean.stdout.splitlines()[-1]) == (0, "None has.")
    day = (tmp_path / "audited").read_text().split()[0]
    assert re.fullmatch(r"20\d\d-\d\d-\d\d", day)
    for answer in ("one is unknown", "nobody answers"):
        partly = made(tmp_path, "audit", answer)
        assert "Error 3" in partly.stderr
        assert partly.stdout.endswith(f"The last good answer is of {day}, about this uv.lock.\n")
    assert (tmp_path / "audited").read_text().split()[0] == day
    (tmp_path / "audited").write_text("2026-01-02 1-2\n")
    assert made(tmp_path, "audit", "nobody answers").stdout.endswith(
        "The last good answer is of 2026-01-02, about another uv.lock.\n"
    )


def test_all_tests_go_on_without_an_answer_and_say_so_at_their_end(tmp_path: Path) -> None:
    (tmp_path / "audited").write_text("2026-01-02 1-2\n")
    went_on = made(tmp_path, "audit-if-possible", "nobody answers")
    assert went_on.returncode == 0
    assert went_on.stdout.endswith("Going on.\n")
    assert "Error 1" in made(tmp_path, "audit-if-possible", "an advisory").stderr
    # The recipe's end, with an answer that was not had and with one that was.
    for answer, told in (("one is unknown", True), ("clean", False)):
        made(tmp_path, "audit-if-possible", answer)
        (tmp_path / "audited").write_text("2026-01-02 1-2\n")
        end = subprocess.run(
            ["make", "-s", "-f", "Makefile", "-f", "-", "end", *beside(tmp_path)],
            cwd=HOUSE,
            input="end:\n\t@$(tell_audit)\n",
            capture_output=True,
            text=True,
            check=False,
        )
        assert end.returncode == 0, end.stderr
        assert ("NOT CHECKED" in end.stdout) is told
        assert ("2026-01-02" in end.stdout) is told
    recipe = (HOUSE / "Makefile").read_text(encoding="utf-8")
    assert recipe.partition("\ntest: ")[2].partition("\n\n")[0].endswith("$(tell_audit); \\\n\texit $$code")
