# SPDX-License-Identifier: GPL-3.0-or-later
"""Variable-rate files: which picture Blender shows, where the keys then lie, and that real time stays real."""

import os
import subprocess
import sys
from pathlib import Path

import bpy
import numpy as np
import pytest
from movies import displayed, displayed_as_image, make_plain, sequences

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import variable_rate  # noqa: E402

from lgd_blender_addon._bridge import counting  # noqa: E402
from lgd_blender_addon.scene import footage, result, timing  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("LGD_DATA") or ROOT.parent / "shared" / "data")
WORKER = os.environ.get("LGD_PYTHON", "")
COUNT = 40
RANDOM = np.random.default_rng(0)
PATTERNS = {
    "steady": [1 / 30] * COUNT,
    "drops": [3 / 30 if k in (5, 9, 17) else 1 / 30 for k in range(COUNT)],
    "half the pace": [1 / 25] * 20 + [2 / 25] * 20,
    "a phone": list((1 / 30) * (1 + 0.15 * RANDOM.standard_normal(COUNT))),
    "whole milliseconds": list(np.diff(np.round(np.arange(COUNT + 1) / 30, 3))),
    "anyhow": list(RANDOM.uniform(0.02, 0.09, COUNT)),
}


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    return tmp_path_factory.mktemp("films")


@pytest.fixture(params=PATTERNS)
def film(request, films):
    """A file of a pattern, and its pictures' times s."""
    seconds = PATTERNS[request.param]
    plain = make_plain(films, COUNT, (30, 1))
    ticks = 1000 if request.param == "whole milliseconds" else None
    path = variable_rate.retime(plain, films / f"{request.param}.mp4", seconds, ticks)
    return path, np.concatenate([[0.0], np.cumsum(seconds)[:-1]])


def strip_of(path, start=3):
    bpy.context.scene.render.fps, bpy.context.scene.render.fps_base = 30, 1.0
    return sequences(bpy.context.scene).new_movie("film", path, 1, start)


def test_we_know_which_picture_is_shown(film):
    path, times = film
    found = footage.from_strip(bpy.context.scene, strip_of(path))
    frames = range(found.start, found.start + len(found.table))
    turned = timing.decoded(found, times)
    assert displayed(bpy.context.scene, frames) == turned.table.tolist()


def test_behind_a_camera_the_same_pictures_are_shown(film):
    """The solved camera's background is an image datablock of the movie: it must count as the sequencer does."""
    path, times = film
    found = footage.from_file(path)
    table = timing.decoded(found, times).table
    frames = range(1, len(table) + 1, 3)
    assert displayed_as_image(path, frames, len(table)) == table[::3].tolist()


def test_keys_lie_where_the_picture_is_shown(film):
    path, times = film
    found = footage.from_strip(bpy.context.scene, strip_of(path))
    shown = displayed(bpy.context.scene, range(found.start, found.start + len(found.table)))
    motion = _Motion(times)
    order, keys, frames, sources = result.key_places(bpy.context.scene, motion, found, "SHOWN")
    assert np.all(np.diff(keys) > 0) and set(order.tolist()) == set(range(COUNT))
    for picture, key in zip(order.tolist(), keys.tolist(), strict=True):
        if picture in shown:
            assert shown[int(key) - found.start] == picture and key == int(key)
    # The background counts as Blender does.
    assert sources.tolist() == found.table.tolist() and frames[0] == found.start


def test_real_time_follows_the_files_times_and_so_does_the_background(film):
    path, times = film
    scene = bpy.context.scene
    found = footage.from_strip(scene, strip_of(path))
    scene.render.fps, scene.render.fps_base = 60, 1.001
    rate = 60 / 1.001
    order, keys, frames, sources = result.key_places(scene, _Motion(times), found, "REAL")
    assert order.tolist() == list(range(COUNT)) and np.allclose((keys - keys[0]) / rate, times, atol=1e-9)
    # Each frame shows the picture whose time has come, or the next where Blender never shows that one.
    table = timing.decoded_table(np.arange(len(found.table)), found.fps, times, 0)
    visible = set(table.tolist())
    for frame, source in zip(frames.tolist(), sources.tolist(), strict=True):
        due = int(np.searchsorted(keys, frame + 1e-4, side="right")) - 1
        wanted = next(picture for picture in range(max(due, 0), COUNT) if picture in visible)
        assert table[source] == wanted


class _Motion:
    def __init__(self, times):
        self.frame_times, self.frames, self.extra = times, len(times), {}


@pytest.mark.parametrize("rate", [5, 24 / 1.001, 25, 30 / 1.001, 60 / 1.001])
def test_steady_rates_count_as_they_are(rate):
    every = np.arange(40000)
    for given in (rate, float(np.float32(rate)), round(rate, 3)):
        assert (counting.counts(every[:20000] / rate, given) == every[:20000]).all()
    assert (counting.counts(every / rate, float(np.float32(rate))) == every).all()
    assert (counting.counts(np.round(every / rate, 3), float(np.float32(rate))) == every).all()
    assert counting.shown(every / rate, rate, 100, 130) == (100, 130)


REAL = """
import cv2, sys
film = cv2.VideoCapture(sys.argv[1])
out = cv2.VideoWriter(sys.argv[2], cv2.VideoWriter_fourcc(*"mp4v"), 12.0, (360, 640))
for _ in range(24):
    out.write(cv2.resize(film.read()[1], (360, 640)))
out.release()
"""


@pytest.mark.skipif(not WORKER, reason="needs the worker's Python (LGD_PYTHON)")
@pytest.mark.skipif(not (DATA / "footage" / "squats.mp4").is_file(), reason="LGD_DATA has no footage/squats.mp4")
def test_the_whole_path_of_a_variable_rate_file(addon, tmp_path, monkeypatch):
    """A real person, the real worker: a range from within the file, a box on a held picture, both kinds of keys."""
    from lgd_blender_addon import session
    from lgd_blender_addon.operators import pump
    from lgd_blender_addon.scene.keyframes import find_curve, keys_of
    from lgd_blender_addon.scene.motion import load_motion

    monkeypatch.setenv("LGD_HOME", str(tmp_path / "home"))
    plain, path = tmp_path / "plain.mp4", tmp_path / "phone.mp4"
    subprocess.run([WORKER, "-c", REAL, DATA / "footage" / "squats.mp4", plain], check=True)
    # Pictures 4 and 12 stay for three and for two of Blender's.
    seconds = [3 / 12 if k == 4 else 2 / 12 if k == 12 else 1 / 12 for k in range(24)]
    variable_rate.retime(plain, path, seconds)
    times = np.concatenate([[0.0], np.cumsum(seconds)[:-1]])
    scene = bpy.context.scene
    scene.render.fps, scene.render.fps_base = 12, 1.0
    settings = scene.lgd
    settings.place, settings.path = "FILE", str(path)
    settings.range, settings.first, settings.last = "CUSTOM", 7, 22
    settings.mode, settings.trace = "PAPER", False
    box = settings.boxes.add()
    box.x, box.y, box.w, box.h, box.first, box.last = 0.0, 0.0, 360.0, 640.0, 7, 7
    table = timing.decoded(footage.from_file(str(path)), times).table
    pictures = sorted(set(table[6:22].tolist()))
    assert pictures[0] == 4 and table[6] == table[5] == 4  # the range begins on a held picture
    runs = []
    finish = pump.finish
    monkeypatch.setattr(pump, "finish", lambda run, *rest: (runs.append(run), finish(run, *rest))[1])
    try:
        for kind in ("SHOWN", "REAL"):
            settings.timing = kind
            assert bpy.ops.lgd.fit(new_rig=True) == {"FINISHED"}
            motion, built = load_motion(runs[-1].fitted["motions"][0]), runs[-1].built[0]
            assert np.allclose(motion.frame_times, times[pictures], atol=1e-4)
            curve = find_curve(built.rig, 'pose.bones["pelvis"].rotation_quaternion')
            keys = np.asarray(keys_of(curve)[0])
            if kind == "SHOWN":
                # A key on each frame on which Blender begins to show another picture, and none but those between.
                begins = 7 + np.flatnonzero(np.diff(table[6:22], prepend=-1))
                assert set(begins.tolist()) <= set(keys.tolist()) and len(keys) >= len(pictures)
            else:
                assert np.allclose(keys - keys[0], (times[pictures] - times[4]) * 12, atol=1e-3) and keys[0] == 7
    finally:
        session.get().shutdown()
