# SPDX-License-Identifier: GPL-3.0-or-later
"""The zip: what is in it, what is not, its manifest, and that equal content makes an equal file."""

import hashlib
import re
import subprocess
import sys
import tomllib
import zipfile

import pytest

import build_addon


@pytest.fixture(scope="module")
def addon(tmp_path_factory):
    """The zip, built without asking for weights: whether they are there is a test of its own."""
    return build_addon.build(tmp_path_factory.mktemp("zip"), say=lambda text: None, weights=False)


def test_weights_are_in_the_checkout():
    wrong = build_addon.faults(list(build_addon.contents()))
    assert not wrong


def test_names(addon):
    with zipfile.ZipFile(addon) as archive:
        names = archive.namelist()
        assert archive.testzip() is None
    assert not build_addon.faults(names, weights=False)
    assert names == sorted(names)
    assert {"__init__.py", "blender_manifest.toml", "LICENSE", "bridge/body/NOTICE"} <= set(names)
    assert not [
        name
        for name in names
        if re.search(r"(^|/)(train|sculpt|tests|\.git|__pycache__)/|\.pyc$|build_", name)
    ]
    assert not [name for name in names if name.startswith(("torch", "wheels")) or name.endswith(".whl")]


@pytest.mark.parametrize(
    "name", ["bridge/train/loop.py", "bridge/body/build_default.py", "notes.pt", "x.pyc", "tests/test_a.py"]
)
def test_what_does_not_belong_is_found(name):
    names = [*build_addon.REQUIRED, "bridge/lgd/weights/video.pt"]
    assert not build_addon.faults(names)
    assert build_addon.faults([*names, name])


@pytest.mark.parametrize("name", build_addon.REQUIRED)
def test_what_is_missing_is_found(name):
    names = [*build_addon.REQUIRED, "bridge/lgd/weights/video.pt"]
    names.remove(name)
    assert any(name in sentence for sentence in build_addon.faults(names))


def test_nothing_is_written_where_something_is_wrong(tmp_path, monkeypatch):
    monkeypatch.setattr(build_addon, "contents", lambda: {"__init__.py": build_addon.ADDON / "__init__.py"})
    with pytest.raises(SystemExit, match="blender_manifest.toml is missing"):
        build_addon.build(tmp_path)
    assert not list(tmp_path.iterdir())


def test_building_twice_gives_equal_bytes(addon, tmp_path):
    again = build_addon.build(tmp_path, say=lambda text: None, weights=False)
    digests = {hashlib.sha256(path.read_bytes()).hexdigest() for path in (addon, again)}
    assert len(digests) == 1


def test_the_bridge_in_the_zip_starts(addon, tmp_path):
    """The command line answers from the unpacked zip, without a checkout beside it."""
    with zipfile.ZipFile(addon) as archive:
        archive.extractall(tmp_path)
    code = "import sys, runpy; sys.path.insert(0, {!r}); sys.argv = ['bridge', '--help']; runpy.run_module('bridge', run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-I", "-c", code.format(str(tmp_path))], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "fit" in done.stdout


def test_manifest():
    about = build_addon.manifest()
    assert about["id"] == "lgd_blender_addon"
    assert about["name"] == "LGD Motion from Footage"
    assert re.fullmatch(r"\d+\.\d+\.\d+", about["version"])
    assert about["blender_version_min"] == "4.2.0"
    assert about["license"] == ["SPDX:GPL-3.0-or-later"]
    assert len(about["tagline"]) <= 64 and about["tagline"][-1].isalnum()
    assert set(about["permissions"]) == {"files", "network"}
    assert all(len(reason) <= 64 and reason[-1].isalnum() for reason in about["permissions"].values())


def test_no_bl_info(root):
    text = (root / "lgd_blender_addon" / "__init__.py").read_text()
    assert "bl_info" not in text  # the manifest is the only place of the version


def test_pins_agree(root):
    from lgd_blender_addon.worker import requirements

    groups = tomllib.loads((root / "pyproject.toml").read_text())["dependency-groups"]
    assert sorted(groups["worker"]) == sorted([requirements.TORCH, *requirements.PACKAGES])
    assert groups["smplx"] == [requirements.SMPLX]


def test_every_file_names_its_licence(root):
    files = [
        path
        for base in ("bridge", "lgd_blender_addon", "tools", "demo", "tests")
        for path in (root / base).rglob("*.py")
    ]
    texts = {path: path.read_text() for path in files}
    bare = [
        path
        for path, text in texts.items()
        if text and "SPDX-License-Identifier: GPL-3.0-or-later" not in text[:200]
    ]
    assert not bare
