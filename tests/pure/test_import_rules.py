# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules of the architecture that hold the two halves, and the core, apart."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BLENDER = {"bpy", "bpy_extras", "bmesh", "mathutils", "gpu", "blf", "gpu_extras"}
PICKLES = {"pickle", "_pickle", "cPickle", "shelve", "marshal", "dill", "cloudpickle", "joblib"}
ADAPTERS = {
    "protocol",
    "server",
    "handlers",
    "faults",
    "inputs",
    "commands",
    "cli",
    "selftest",
    "__main__",
    "__init__",
}
UNPICKLER = "bridge.body.official"  # the one restricted unpickler, for official SMPL files
STANDARD = set(sys.stdlib_module_names)


def imports(source: str, module: str, is_package: bool = False) -> set[str]:
    """All modules and names that a module's source imports, also inside functions, as absolute dotted names."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = (
                module.split(".")[: -node.level if not is_package else 1 - node.level or None]
                if node.level
                else []
            )
            base = ".".join([*base, *([node.module] if node.module else [])])
            found |= {base, *(f"{base}.{alias.name}" for alias in node.names)} - {""}
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") in ("import_module", "__import__"):
            found |= {a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)}
    return found


def under(name: str, *packages: str) -> bool:
    """Whether a dotted name is one of the packages or lies in one."""
    return any(name == package or name.startswith(package + ".") for package in packages)


def faults(module: str, found: set[str]) -> list[str]:
    """The rules that a module with these imports breaks."""
    tops = {name.split(".")[0] for name in found}
    package, _, rest = module.partition(".")
    first = rest.split(".")[0] or "__init__"
    broken = []

    def rule(holds: bool, sentence: str) -> None:
        if not holds:
            broken.append(f"{module}: {sentence}")

    if tops & PICKLES:
        rule(module == UNPICKLER, "pickle is banned")
    if package == "bridge":
        rule(not tops & (BLENDER | {"lgd_blender_addon"}), "nothing in bridge imports bpy or the add-on")
        if first in ("protocol", "errors", "places", "moving"):
            rule(tops <= STANDARD, "imports the standard library only")
        for one, more in (("server", "protocol"), ("models", "moving")):
            if first == one:
                inside = {name for name in found if under(name, "bridge")} - {"bridge"}
                rule(tops <= STANDARD | {"bridge"} and all(under(n, f"bridge.{more}") for n in inside), f"adds only {more}")
        if first not in ADAPTERS | {"train"}:
            banned = [f"bridge.{name}" for name in ADAPTERS - {"__init__"} | {"train"}]
            rule(
                not any(under(name, *banned) for name in found), "the core knows neither bridge nor training"
            )
    if package == "lgd_blender_addon":
        rule("torch" not in tops, "nothing in the add-on imports torch")
        reaches = any(under(name, "bridge", "lgd_blender_addon.bridge") for name in found)
        rule(not reaches, "the add-on reaches bridge through _bridge.py only")
        runtime = any(under(name, "lgd_blender_addon.worker", "lgd_blender_addon.session") for name in found)
        if first in ("worker", "session", "_bridge") or module == "lgd_blender_addon.scene.axes":
            rule(not tops & BLENDER, "never imports bpy")
        if first in ("scene", "panels"):
            rule(not runtime, f"{first} never imports worker or session")
    return broken


def modules():
    for package in ("bridge", "lgd_blender_addon"):
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            is_package = parts[-1] == "__init__"
            yield ".".join(parts[:-1] if is_package else parts), is_package, path


def test_rules_hold():
    broken, count = [], 0
    for module, is_package, path in modules():
        broken += faults(module, imports(path.read_text("utf-8"), module, is_package))
        count += 1
    assert count > 10
    assert not broken, "\n".join(broken)


def test_no_array_file_is_unpickled():
    for _, _, path in modules():
        text = path.read_text("utf-8")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call):
                named = {keyword.arg: keyword.value for keyword in node.keywords}
                allow = named.get("allow_pickle")
                assert allow is None or (isinstance(allow, ast.Constant) and allow.value is False), path
                if ast.unparse(node.func) == "torch.load":
                    assert "weights_only" in named and ast.unparse(named["weights_only"]) == "True", path


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("bridge.protocol", "import numpy"),
        ("bridge.server", "from . import errors"),
        ("bridge.server", "from .protocol import encode\nimport torch"),
        ("bridge.lgd.fitter", "from ..server import Task"),
        ("bridge.keypoints.detect", "from bridge.train import data"),
        ("bridge.motion", "def f():\n    from . import protocol"),
        ("bridge.body.smpl", "import bpy"),
        ("bridge.handlers", "import lgd_blender_addon.session"),
        ("bridge.lgd.checkpoint", "import pickle"),
        ("lgd_blender_addon.operators.fit", "import torch"),
        ("lgd_blender_addon.session", "from bridge import protocol"),
        ("lgd_blender_addon.worker.client", "import bpy"),
        ("lgd_blender_addon.scene.axes", "from mathutils import Matrix"),
        ("lgd_blender_addon.scene.keyframes", "from .. import session"),
        ("lgd_blender_addon.panels.main", "from ..worker.job import Job"),
    ],
)
def test_rules_catch(module, source):
    assert faults(module, imports(source, module))


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("bridge.server", "import os\nfrom . import protocol"),
        ("bridge.handlers", "from .server import Task"),
        ("bridge.train.loop", "from .data import clips\nfrom ..lgd import paper"),
        ("lgd_blender_addon.worker.client", "from .._bridge import protocol"),
        ("lgd_blender_addon.operators.fit", "import bpy\nfrom .. import session"),
    ],
)
def test_rules_allow(module, source):
    assert not faults(module, imports(source, module))
