import ast
import inspect
import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import isograft
from isograft.errors import IsograftError
from isograft.verbs import VERBS, Verb

HEAVY = (
    "torch", "torchvision", "timm", "sklearn", "lightning", "pytorch_lightning", "numpy", "polars", "pandas", "cv2", "PIL", "matplotlib",
    "scipy", "pyarrow", "safetensors", "ray", "onnx", "onnxruntime", "fastapi", "uvicorn",
)  # fmt: skip
READERS = ("pydantic", "cyclopts", "rich", "attrs")

PROBE = """
import contextlib, io, json, sys
watched, lines = json.loads(sys.argv[1])
from isograft.cli import main
loaded, codes = {}, {}
for line in lines:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            main(line.split())
        except SystemExit as end:
            codes[line] = end.code
    loaded[line] = [name for name in watched if name in sys.modules]
print(json.dumps([loaded, codes]))
"""


def after(watched, lines):
    """What command lines, one after another in a fresh interpreter, have loaded of some modules after each line; and their exit codes."""
    command = [sys.executable, "-c", PROBE, json.dumps([watched, lines])]
    loaded, codes = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return loaded, codes


def heavy_after(code: str) -> list[str]:
    """The heavy modules loaded after running code in a fresh interpreter."""
    probe = f"import sys\n{code}\nprint('LOADED', *[m for m in {HEAVY + READERS} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-1].split()[1:]


def test_importing_the_package_imports_nothing_that_takes_time():
    assert heavy_after("import isograft; dir(isograft); isograft.LeakageError") == []


def test_the_probe_for_heavy_imports_finds_one():
    assert "polars" in heavy_after("import isograft, polars")
    loaded, _ = after(HEAVY, ["show no-such-folder"])
    assert "polars" in loaded["show no-such-folder"]


def test_the_version_and_a_mistyped_command_do_not_even_load_what_reads_options():
    loaded, codes = after(HEAVY + READERS, ["--version", "pretrian x --out y", "nothing", "--verson"])
    assert not any(loaded.values()), loaded
    assert codes == {"--version": 0, "pretrian x --out y": 2, "nothing": 2, "--verson": 2}


def test_the_list_of_commands_needs_no_settings():
    loaded, codes = after((*HEAVY, "pydantic"), ["--help", "-h"])
    assert not any(loaded.values()), loaded
    assert set(codes.values()) == {0}


def test_help_and_wrong_options_of_every_verb_import_nothing_heavy():
    helps = [f"{name} --help" for name in VERBS]
    wrong = [f"{name} --no-such-option" for name in VERBS] + [f"{name} {'x ' * 9}--seed" for name in VERBS]
    wrong += [
        "pretrain x --out y --epoch 3",
        "pretrain x --out y --seed -1",
        "finetune x --out y --init z --strategy probe --lr 1",
        "evaluate m --out y --labels z",
        "predict m i --out t.txt",
        "explain m i --out y --method lime",
        "explain m i --out y --similar -1",
        "export m --to onnx --out y.pt",
        "serve m --port 70000",
        "serve m --label l.csv",
        "suggest m p --n 0 --out s.csv",
        "suggest m p --n 3 --out s.parquet",
        "ingest a --out m.parquet --threads 0",
        "audit m.parquet --fail-on everything",
        "demo --seed -1",
        "study s.yaml",
        "study --init s.yaml --out y",
    ]
    loaded, codes = after(HEAVY, helps + wrong)
    assert not any(loaded.values()), {line: names for line, names in loaded.items() if names}
    assert {line: codes[line] for line in helps} == dict.fromkeys(helps, 0)
    assert {line: codes[line] for line in wrong} == dict.fromkeys(wrong, 2)


def refusing(tmp_path: Path) -> dict[str, str]:
    """Command lines that name no model, or a place that is taken."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "taken.onnx").touch()
    (tmp_path / "taken.csv").touch()
    return {
        "export": "export empty --to onnx --out new.onnx",
        "export onto a file": "export empty --to onnx --out taken.onnx",
        "export onto a folder": "export nowhere --to timm --out taken.csv",
        "predict": "predict empty empty --out new.csv",
        "predict onto a file": "predict empty empty --out taken.csv",
        "serve": "serve nowhere --port 0",
        "suggest": "suggest empty empty --n 3 --out new.csv",
        "suggest onto a file": "suggest empty empty --n 3 --out taken.csv",
        "show": "show empty",
        "explain": "explain empty empty --out new",
        "evaluate": "evaluate empty empty --out new",
    }


def test_what_is_no_model_or_is_taken_is_refused_without_torch(tmp_path: Path) -> None:
    """One process for all: a verb that loads torch is the one after which it is there."""
    probe = """
import json, os, sys
os.chdir(sys.argv[1])
from isograft.cli import main
told = {}
for name, line in json.loads(sys.argv[2]).items():
    try:
        code = main(line.split())
    except SystemExit as end:
        code = end.code
    told[name] = [code, "torch" in sys.modules]
print("TOLD", json.dumps(told))
"""
    lines = refusing(tmp_path)
    done = subprocess.run([sys.executable, "-c", probe, str(tmp_path), json.dumps(lines)], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1].removeprefix("TOLD ")) == {name: [2, False] for name in lines}, done.stderr
    assert len(done.stderr.splitlines()) == len(lines)


@pytest.mark.parametrize("verb", VERBS.values(), ids=list(VERBS))
def test_every_option_has_a_help_sentence(verb):
    assert all(field.description and field.description.endswith(".") for field in verb.settings.model_fields.values())


@pytest.mark.parametrize("verb", VERBS.values(), ids=list(VERBS))
def test_the_python_function_shows_every_option_with_its_default(verb):
    signature = inspect.signature(getattr(isograft, verb.name))
    assert set(signature.parameters) == set(verb.settings.model_fields)
    for name, parameter in signature.parameters.items():
        field = verb.settings.model_fields[name]
        assert (parameter.default is parameter.empty) == field.is_required()
        assert field.is_required() or parameter.default == field.default
        assert f"    {name}: {field.description}" in getattr(isograft, verb.name).__doc__


@pytest.mark.parametrize("verb", VERBS.values(), ids=list(VERBS))
def test_the_implementation_takes_the_settings_of_its_verb_and_returns_what_the_verb_says(verb):
    """Read from the source, because importing every implementation takes seconds."""
    module, _, name = verb.target.partition(":")
    tree = ast.parse(Path(find_spec(module).origin).read_text(encoding="utf-8"))
    (function,) = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name]
    (parameter,) = function.args.args
    assert ast.unparse(parameter.annotation) == verb.settings.__name__
    assert ast.unparse(function.returns).removeprefix("pl.") == verb.returned_name


def test_a_submodule_does_not_hide_the_verb_of_the_same_name():
    import isograft.demo

    assert inspect.isfunction(isograft.demo)
    assert inspect.ismodule(sys.modules["isograft.demo"])


def test_errors_are_reachable_by_name_and_unknown_names_are_refused():
    assert isograft.LeakageError.exit_code == 3
    assert isograft.RunInterrupted("stopped").exit_code == 130
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = isograft.nothing


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model": "m", "input": "i", "out": "x.txt"}, "predict: out x.txt must end in .csv or .parquet"),
        ({"model": "m", "input": "i"}, "predict: out is required"),
        ({"model": "m", "input": "i", "out": "x.csv", "thread": 1}, "there is no option thread; did you mean threads?"),
        ({"model": "m", "input": "i", "out": "x.csv", "threads": 0}, "threads is 0 but must be a whole number of at least 1"),
        ({"model": "m", "input": "i", "out": "x.csv", "threads": 1.5}, "threads is 1.5 but must be a whole number of at least 1"),
    ],
)
def test_a_wrong_value_is_one_sentence_that_names_option_and_bound(values, message):
    with pytest.raises(IsograftError) as caught:
        VERBS["predict"].build(values)
    assert message in str(caught.value).replace("--out", "out")
    assert "\n" not in str(caught.value)


def test_several_wrong_values_are_all_named():
    with pytest.raises(IsograftError) as caught:
        VERBS["ingest"].build({"source": "a", "out": "m.parquet", "threads": 0, "max_megapixels": -1})
    assert "threads is 0" in str(caught.value) and "max_megapixels is -1" in str(caught.value)


@pytest.mark.parametrize("source", ["images", Path("images"), ["images"], [Path("images")], ("images",)])
def test_a_repeatable_option_takes_one_value_or_many(source):
    assert VERBS["ingest"].build({"source": source, "out": Path("m.parquet")}).source == (Path("images"),)


def test_text_options_take_paths():
    assert VERBS["predict"].build({"model": "m", "input": Path("a") / "b", "out": "x.csv"}).input == str(Path("a/b"))


def test_positional_values_reach_their_places_and_surplus_ones_are_refused():
    seen = []

    class Recorder(Verb):
        def run(self, settings):
            seen.append(settings)

    function = Recorder(**{name: getattr(VERBS["predict"], name) for name in ("name", "summary", "target", "returns", "about")}).function()
    function("model", "input", out="x.csv")
    assert (seen[0].model, seen[0].input) == (Path("model"), "input")
    with pytest.raises(IsograftError, match=r"takes 2 unnamed arguments \(model, input\) but got 3"):
        function("model", "input", "x.csv")
    with pytest.raises(IsograftError, match="got model twice"):
        function("model", model="other", input="i", out="x.csv")


def test_a_manifest_stands_for_its_file_and_one_only_in_memory_is_refused(image_tree, tmp_path):
    manifest = isograft.ingest(image_tree, out=tmp_path / "m.parquet")
    assert VERBS["pretrain"].build({"data": manifest, "out": "model"}).data == str(tmp_path / "m.parquet")
    with pytest.raises(IsograftError, match="only in memory; write it first"):
        VERBS["pretrain"].build({"data": isograft.Manifest(manifest.frame, None), "out": "model"})
