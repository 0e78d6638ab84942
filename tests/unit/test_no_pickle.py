"""No code of the project reads a file in a way that could run what is in it; found in the syntax tree, whatever a module is called by."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(path for folder in ("src", "benchmarks", "tools") for path in (ROOT / folder).rglob("*.py"))

MODULES = {
    "pickle", "_pickle", "cPickle", "pickletools", "dill", "cloudpickle", "jsonpickle", "joblib", "shelve", "marshal", "dbm",
    "runpy", "code",
}  # fmt: skip
HARMLESS = {"pickle.UnpicklingError"}
CALLS = {
    "eval", "exec", "compile", "__import__", "builtins.eval", "builtins.exec", "yaml.load", "yaml.load_all", "yaml.full_load",
    "yaml.full_load_all", "yaml.unsafe_load", "yaml.unsafe_load_all", "torch.hub.load", "torch.jit.load", "torch.package.PackageImporter",
    "pandas.read_pickle", "numpy.lib.format.read_array", "sklearn.externals.joblib.load", "os.system", "os.popen",
}  # fmt: skip
BASES = {"yaml.Loader", "yaml.FullLoader", "yaml.UnsafeLoader", "yaml.CLoader", "yaml.CFullLoader", "yaml.CUnsafeLoader"}
# Methods by name alone, of whatever object.
METHODS = {"read_pickle", "deserialize", "register_custom_ops_library"}
# Keywords by the value they must not have; nor any that is not written out.
FORBIDDEN = {"allow_pickle": True, "trust_remote_code": True, "weights_only": False, "shell": True}


def offences(text: str) -> Iterator[str]:
    """What a module does that could run the content of a file, by line."""
    tree = ast.parse(text)
    names = {}  # local name to what it stands for
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.asname or alias.name.partition(".")[0]: alias.name if alias.asname else alias.name.partition(".")[0]
                      for alias in node.names}  # fmt: skip
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}

    def origin(node: ast.AST) -> str:
        if isinstance(node, ast.Attribute):
            return f"{origin(node.value)}.{node.attr}"
        return names.get(node.id, node.id) if isinstance(node, ast.Name) else "?"

    for node in ast.walk(tree):
        for found in (*_imported(node), *(_called(node, origin) if isinstance(node, ast.Call) else ())):
            yield f"line {node.lineno}: {found}"
        if isinstance(node, ast.Attribute | ast.Name) and origin(node) in BASES:
            yield f"line {node.lineno}: {origin(node)}"


def _imported(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (f"import {alias.name}" for alias in node.names if alias.name.partition(".")[0] in MODULES)
    elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in MODULES:
        yield from (f"from {node.module} import {alias.name}" for alias in node.names if f"{node.module}.{alias.name}" not in HARMLESS)


def _called(node: ast.Call, origin) -> Iterator[str]:
    name = origin(node.func)
    method = node.func.attr if isinstance(node.func, ast.Attribute) else ""
    given = {keyword.arg: keyword.value.value if isinstance(keyword.value, ast.Constant) else "?" for keyword in node.keywords}
    if name in CALLS or method in METHODS:
        yield name
    if name in ("importlib.import_module", "import_module") and node.args and getattr(node.args[0], "value", None) in MODULES:
        yield f"import of {node.args[0].value}"
    reads = name == "torch.load" or method == "load_from_checkpoint" or (method == "fit" and "ckpt_path" in given)
    if reads and given.get("weights_only") is not True:
        yield f"{name} without weights_only=True"
    yield from (f"{key}={value}" for key, value in FORBIDDEN.items() if key in given and given[key] is not (not value))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_nothing_read_from_a_file_can_run(path):
    assert list(offences(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "import pickle as p",
        "from pickle import loads",
        "from dill import load",
        "import joblib.numpy_pickle",
        "import shelve",
        "import marshal",
        "from importlib import import_module\nimport_module('pickle')",
        "import torch\ntorch.load(path)",
        "import torch as t\nt.load(path, weights_only=False)",
        "from torch import load\nload(path)",
        "from torch import load as read\nread(path, weights_only=safe)",
        "import torch\ntorch.hub.load('x', 'y')",
        "trainer.fit(module, ckpt_path=path)",
        "Module.load_from_checkpoint(path)",
        "import numpy as np\nnp.load(path, allow_pickle=True)",
        "import numpy as np\nnp.load(path, allow_pickle=flag)",
        "import yaml\nyaml.load(text, Loader=yaml.SafeLoader)",
        "from yaml import unsafe_load\nunsafe_load(text)",
        "import yaml\nclass Mine(yaml.Loader): ...",
        "eval(path.read_text())",
        "exec(text)",
        "compile(text, 'x', 'exec')",
        "__import__(name)",
        "frame.deserialize(path)",
        "import pandas as pd\npd.read_pickle(path)",
        "AutoModel.from_pretrained(x, trust_remote_code=True)",
        "import subprocess\nsubprocess.run(text, shell=True)",
    ],
)
def test_what_could_run_is_found(text):
    assert list(offences(text))


@pytest.mark.parametrize(
    "text",
    [
        "from pickle import UnpicklingError",
        "import torch\ntorch.load(path, weights_only=True)",
        "import numpy as np\nnp.load(path, allow_pickle=False)\nnp.load(path)",
        "import yaml\nyaml.safe_load(text)\nclass Mine(yaml.SafeLoader): ...",
        "import re\nre.compile('x')\nnetwork.eval()\njson.load(stream)",
        "trainer.fit(module, ckpt_path=path, weights_only=True)",
    ],
)
def test_what_is_safe_passes(text):
    assert list(offences(text)) == []
