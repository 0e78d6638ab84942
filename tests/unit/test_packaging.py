"""What is installed is what was tested, and may be passed on."""

import re
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def packages(tool):
    return tool("packages")


@pytest.fixture(scope="module")
def needed(packages):
    """Everything that isograft needs here with all its extras."""
    return sorted(packages.closure(packages.requirements(packages.every_extra())))


def test_every_direct_requirement_is_pinned_inside_its_bounds(packages):
    pins = packages.pins()
    loose = [str(one) for one in packages.requirements(packages.every_extra()) if not one.specifier.contains(pins[packages.key(one.name)])]
    assert loose == []


def test_everything_that_is_needed_is_pinned_at_the_version_that_is_installed(packages, needed):
    pins = packages.pins()
    differing = {name: (packages.version(name), pins.get(name)) for name in needed if not packages.BY_MACHINE.match(name)}
    assert {name: pair for name, pair in differing.items() if pair[0] != pair[1]} == {}, "installed and pinned; run `make dev`"


def test_the_closure_reaches_what_requirements_require(packages, needed):
    """So that the test above cannot pass by looking at too little."""
    assert {"numpy", "markupsafe", "sympy", "starlette", "h11", "rpds-py"} <= set(needed) and "pip" not in needed
    for name in needed:
        for line in metadata.requires(name) or []:
            child = Requirement(line)
            if child.marker is None or child.marker.evaluate({"extra": ""}):
                assert packages.key(child.name) in {*needed, "pip"}


def test_a_package_that_is_not_installed_is_named(packages):
    with pytest.raises(SystemExit, match="no-such-package is needed but not installed here; run: make dev"):
        packages.closure([Requirement("no-such-package")])


def test_the_pins_are_exact_and_name_no_machine_no_index_and_no_archive(packages):
    lines = packages.PINS.read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("# ") and lines[1:] == sorted(lines[1:], key=lambda line: line.partition("==")[0])
    assert [line for line in lines[1:] if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*==[0-9][0-9a-z.]*", line)] == []
    assert [line for line in lines if packages.BY_MACHINE.match(line)] == []


def test_the_licence_is_apache_2_in_full(packages):
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Version 2.0, January 2004" in text and "9. Accepting Warranty or Additional Liability" in text
    assert packages.project()["license"] == "Apache-2.0"
