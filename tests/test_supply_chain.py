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
