"""CI fails for a known vulnerability that a newer version mends, and for nothing else that a service says or does not say."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def advisories(tool):
    return tool("advisories")


def says(text: str, code: int = 0) -> list[str]:
    """A program in the place of pip-audit."""
    return [sys.executable, "-c", f"import sys; print({text!r}); sys.exit({code})"]


def found(*packages: dict) -> dict:
    return {"dependencies": list(packages), "fixes": []}


SOUND = {"name": "a", "version": "1", "vulns": []}
MENDED = {"name": "b", "version": "1", "vulns": [{"id": "X-1", "fix_versions": ["1.1", "2"]}]}
OPEN = {"name": "c", "version": "1", "vulns": [{"id": "X-2", "fix_versions": []}]}
UNHEARD = {"name": "d", "skip_reason": "not found"}


@pytest.mark.parametrize(
    ("answer", "code", "told"),
    [
        (found(SOUND), 0, ["1 pinned packages looked up"]),
        (found(SOUND, OPEN), 0, ["c 1 has X-2; no version mends it yet", "2 pinned packages looked up"]),
        (found(SOUND, MENDED), 1, ["b 1 has X-1; mended in 1.1, 2: change constraints.txt", "2 pinned packages looked up"]),
        (found(MENDED, UNHEARD), 1, ["b 1 has X-1; mended in 1.1, 2: change constraints.txt", "the service does not know d",
                                    "1 pinned packages looked up"]),
        (None, 0, ["not asked, as no vulnerability service could be reached within 60 s"]),
    ],
)  # fmt: skip
def test_only_what_can_be_mended_fails(advisories, answer, code, told):
    assert advisories.verdict(answer) == ([f"advisories: {line}" for line in told], code)


@pytest.mark.parametrize("text", ["", "no JSON", "[]", "{}", json.dumps(found()), json.dumps(found(UNHEARD))])
def test_an_answer_that_says_nothing_of_our_packages_is_none(advisories, text):
    assert advisories.ask(says(text, 1), ((),)) is None


def test_a_service_that_does_not_answer_in_time_is_given_up(advisories):
    assert advisories.ask([sys.executable, "-c", "import time; time.sleep(600)"], ((),), seconds=0.5) is None


def test_the_second_service_is_asked_where_the_first_has_nothing_to_say(advisories):
    script = "import sys; print(sys.argv[1])"
    answers = [(json.dumps(found(UNHEARD)),), (json.dumps(found(SOUND)),)]
    assert advisories.ask([sys.executable, "-c", script], answers) == found(SOUND)


def test_pip_audit_understands_how_it_is_called(advisories):
    done = subprocess.run([*advisories.COMMAND, "--dry-run"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-500:]


def test_ci_ends_with_the_words_of_pytest_and_fails_for_an_advisory_only_where_the_tests_pass():
    lines = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    asked, tested = lines.index("make advisories"), lines.index('make test 2>&1 | tee "$log"')
    assert asked < tested and lines[asked + 1] == "advisories=$?"
    assert lines[-3].startswith("grep -E") and lines[-2:] == ['[ "$code" -ne 0 ] || code=$advisories', 'exit "$code"']
