# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs in a Blender module: user folders of its own, an empty file for each test, and an end without exit crashes."""

import os
import sys
import tempfile
from pathlib import Path

# Before bpy is imported: tests must not read or write the developer's Blender settings.
os.environ["BLENDER_USER_RESOURCES"] = tempfile.mkdtemp(prefix="lgd-blender-")
ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import pytest  # noqa: E402

try:
    import bpy
except ImportError:
    bpy = None
    collect_ignore_glob = ["test_*.py"]

_status = 0


@pytest.fixture(autouse=True)
def empty_file():
    """Each test starts in an empty file; enabled add-ons stay enabled."""
    bpy.ops.wm.read_homefile(use_empty=True)
    yield


@pytest.fixture
def addon():
    """The add-on, registered for one test."""
    import lgd_blender_addon

    lgd_blender_addon.register()
    yield lgd_blender_addon
    lgd_blender_addon.unregister()


@pytest.fixture(scope="session")
def default_body():
    """The body that ships, or the plain synthetic one where its file is not built."""
    from models import default_body

    return default_body()


@pytest.fixture(scope="session")
def official_body():
    """A synthetic model of the official structure: 6,890 vertices, 207 pose shapes that are not zero."""
    from models import synthetic_body

    return synthetic_body()


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """A movie of 24 pictures at 25 a second, which show their numbers."""
    from movies import make_movie

    return make_movie(tmp_path_factory.mktemp("films"), 24, (25, 1))


@pytest.fixture
def script(addon, tmp_path, monkeypatch, film):
    """A scripted worker, and the film chosen as footage."""
    from models import default_body
    from scripted import Script

    from lgd_blender_addon import session
    from lgd_blender_addon.operators import bodies

    monkeypatch.setenv("LGD_PYTHON", sys.executable)
    monkeypatch.setenv("LGD_HOME", str(tmp_path / "home"))
    made = Script(tmp_path, default_body())
    monkeypatch.setattr(session, "get", lambda: made)
    bodies._described.clear()
    bpy.context.scene.lgd.place, bpy.context.scene.lgd.path = "FILE", film
    yield made
    bodies._described.clear()


def pytest_sessionfinish(session, exitstatus):
    global _status
    _status = int(exitstatus)


def pytest_unconfigure(config):
    # The module may crash or hang when Python ends; the tests' own status counts.
    if bpy is not None and os.environ.get("HARD_EXIT", "1") == "1":
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(_status)


@pytest.fixture
def solved(tmp_path, default_body, addon):
    """A motion and what was built of it, with the add-on registered."""
    from models import write_motion
    from test_result import plain_footage

    from lgd_blender_addon.scene import result
    from lgd_blender_addon.scene.motion import load_motion

    motion = load_motion(write_motion(tmp_path / "motion.npz", default_body))
    return motion, result.build(bpy.context.scene, motion, default_body, plain_footage(), result.Options(show_footage=False))
