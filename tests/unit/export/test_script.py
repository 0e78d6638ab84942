"""The script of the how-to page, run where only what it needs can be imported."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import isograft

PAGE = Path(__file__).resolve().parents[3] / "docs" / "how-to" / "export.md"
NOTHING_ELSE = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"isograft", "torch", "torchvision", "timm", "cv2", "onnx", "onnxscript", "polars", "scipy"}:
            raise ModuleNotFoundError(f"{name} is not to be needed", name=name)
sys.meta_path.insert(0, Refuse())
"""


def test_ten_lines_with_onnxruntime_numpy_and_pillow_print_what_predict_answers(world: Path, tmp_path: Path):
    (script,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len([line for line in script.splitlines() if line.strip() and "import" not in line]) <= 10
    isograft.export(world / "classifier", to="onnx", out=tmp_path / "classifier.onnx")
    (tmp_path / "lesion.png").write_bytes((world / "images" / "nevus" / "10.png").read_bytes())
    done = subprocess.run(
        [sys.executable, "-I", "-c", NOTHING_ELSE + script], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=120
    )
    row = isograft.predict(world / "classifier", tmp_path / "lesion.png", out=tmp_path / "p.csv").row(0, named=True)
    printed = dict(line.split(": ") for line in done.stdout.splitlines())
    assert {name: float(p) for name, p in printed.items()} == pytest.approx(
        {name: row[f"p_{name}"] for name in ("melanoma", "nevus")}, abs=2e-6
    )
    assert not done.stderr
