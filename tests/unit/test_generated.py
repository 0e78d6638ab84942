import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def generate():
    spec = importlib.util.spec_from_file_location("generate", ROOT / "tools" / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_type_stub_is_what_the_settings_say(generate):
    assert generate.STUB.read_text(encoding="utf-8") == generate.stub(), "run `make docs`"


def test_the_command_reference_is_what_the_settings_say(generate):
    assert generate.COMMANDS.read_text(encoding="utf-8") == generate.commands(), "run `make docs`"


def test_the_stub_names_everything_public(generate):
    import isograft

    text = generate.stub()
    for name in isograft.__all__:
        assert f"def {name}(" in text or f"import {name} as {name}" in text or f"{name} as {name}" in text
