from __future__ import annotations

import json

import pytest

from isograft.errors import IsograftError
from isograft.extras import needed


def test_an_installed_module_is_returned() -> None:
    assert needed("json", "dicom") is json


def test_a_missing_one_names_the_package_and_the_extra() -> None:
    with pytest.raises(IsograftError, match=r"no_such_package.*pip install 'isograft\[dicom\]'"):
        needed("no_such_package", "dicom")
