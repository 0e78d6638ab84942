"""Write what is generated from the settings classes: the command reference and the type stub (run by `make docs`)."""

from __future__ import annotations

from pathlib import Path

from pydantic.fields import FieldInfo

from isograft.options import choices, default_text, expectation, metavar, ordered_fields, positional, python_type, repeatable
from isograft.settings import flag
from isograft.verbs import VERBS, Verb

ROOT = Path(__file__).resolve().parents[1]
STUB = ROOT / "src" / "isograft" / "__init__.pyi"
COMMANDS = ROOT / "docs" / "reference" / "commands.md"

STUB_HEAD = '''"""Same-domain transfer learning for medical images with few labels. Generated from the settings: run `make docs`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from polars import DataFrame

from isograft._version import __version__ as __version__
from isograft.data.manifest import Manifest as Manifest
from isograft.errors import IsograftError as IsograftError
from isograft.errors import LeakageError as LeakageError
from isograft.errors import RunInterrupted as RunInterrupted
from isograft.model import Model as Model
'''

COMMANDS_HEAD = """# Commands

Generated from the settings classes by `make docs`; `isograft VERB --help` shows the same. In Python every command is a function with the
same names and arguments: `isograft pretrain pool.parquet --image-size 64 --out model` is
`isograft.pretrain("pool.parquet", image_size=64, out="model")`.

| exit code | meaning |
|---|---|
| 0 | done |
| 2 | bad usage or bad input: one sentence on stderr says what, where and what to do |
| 3 | refused: the model, or an ancestor of it, has seen images of the evaluation |
| 130 | interrupted: the state is saved and `--resume` continues |
| 143 | ended by SIGTERM, as job schedulers send it: like 130 |

`--traceback` after any command shows where in the code an error arose.

Wherever a model folder or weights file is named, `PLACE@sha256:SEAL` is that one and no other, see
[Security](../explanation/security.md#the-seal-of-a-model).
"""


def stub() -> str:
    """The content of `__init__.pyi`."""
    return STUB_HEAD + "".join(f"\n{_stub_function(verb)}" for verb in VERBS.values())


def commands() -> str:
    """The content of `docs/reference/commands.md`."""
    return COMMANDS_HEAD + "".join(f"\n{_command_section(verb)}" for verb in VERBS.values())


def _stub_function(verb: Verb) -> str:
    lines = [f"def {verb.name}("]
    keyword = False
    for name, field in ordered_fields(verb.settings):
        if not positional(field) and not keyword:
            lines.append("    *,")
            keyword = True
        lines.append(f"    {name}: {python_type(name, field)}{_stub_default(field)},")
    lines.append(f") -> {verb.returned_name}:")
    first, *rest = verb.documentation().splitlines()
    lines.append(f'    """{first}')
    lines += [f"    {line}" if line else "" for line in rest]
    lines.append('    """')
    return "\n".join(lines) + "\n"


def _stub_default(field: FieldInfo) -> str:
    if field.is_required():
        return ""
    if isinstance(field.default, Path):
        return " = ..."
    return f' = "{field.default}"' if isinstance(field.default, str) else f" = {field.default!r}"


def _command_section(verb: Verb) -> str:
    fields = ordered_fields(verb.settings)
    usage = ["isograft", verb.name]
    for name, field in fields:
        if positional(field):
            word = name.upper() + ("..." if repeatable(field) else "")
            usage.append(word if field.is_required() else f"[{word}]")
        elif field.is_required():
            usage.append(f"{flag(name)} {metavar(field) or '|'.join(choices(field))}")
    lines = [f"## isograft {verb.name}", "", verb.summary, "", "```", " ".join([*usage, "[OPTIONS]"]), "```", ""]
    lines += ["| option | takes | default | meaning |", "|---|---|---|---|"]
    for name, field in fields:
        label = name.upper() if positional(field) else flag(name)
        takes = "switch" if field.annotation is bool else expectation(field)
        default = "required" if field.is_required() else default_text(field) or ""
        lines.append(f"| `{label}` | {takes} | {default} | {(field.description or '').replace('|', chr(92) + '|')} |")
    lines += ["", f"In Python: `isograft.{verb.name}(...)` returns `{verb.returned_name}`. {verb.about}"]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write both files."""
    COMMANDS.parent.mkdir(parents=True, exist_ok=True)
    STUB.write_text(stub(), encoding="utf-8")
    COMMANDS.write_text(commands(), encoding="utf-8")


if __name__ == "__main__":
    main()
