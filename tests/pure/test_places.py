# SPDX-License-Identifier: GPL-3.0-or-later
"""Where things lie."""

import os
import sys
import tempfile
import tomllib
from pathlib import Path

from bridge import places

ROOT = Path(__file__).resolve().parents[2]


def test_the_users_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("LGD_HOME", str(tmp_path))
    assert places.user_folder() == tmp_path
    monkeypatch.delenv("LGD_HOME")
    if sys.platform == "linux":
        monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
        assert places.user_folder() == tmp_path / "data" / "lgd_blender_addon"
    assert places.user_folder().name == "lgd_blender_addon"


def test_a_user_without_a_home_has_a_folder(monkeypatch, tmp_path):
    def unknown():
        raise RuntimeError("Could not determine home directory.")

    for name in ("LGD_HOME", "XDG_DATA_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", unknown)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert tmp_path in places.user_folder().parents


def test_the_version_is_the_manifests():
    manifest = tomllib.loads((ROOT / "lgd_blender_addon" / "blender_manifest.toml").read_text("utf-8"))
    assert places.version() == manifest["version"]


def test_a_traceback_goes_elsewhere_where_its_folder_cannot_be(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("LGD_HOME", str(tmp_path / "file" / "below"))
    path = places.write_traceback(ValueError("lost w\udce4lk.mp4"))  # a name that is not in UTF-8
    assert "lost" in path.read_text("utf-8")
    path.unlink()


def test_passing_folders_go_with_the_process_and_those_of_killed_ones_after_a_day(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    old, young, other = (tmp_path / name for name in ("lgd-path-old", "lgd-path-young", "somebody-old"))
    for folder in (old, young, other):
        (folder / "pictures").mkdir(parents=True)
    for folder in (old, other):
        os.utime(folder, (1e9, 1e9))
    here = places.passing_folder("lgd-path-")
    assert sorted(tmp_path.iterdir()) == sorted((here, young, other))
    places.drop_all()
    assert not here.exists()
