# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a camera is seen to travel."""

import shutil
import sys
import tempfile
from types import SimpleNamespace

import pytest

np = pytest.importorskip("numpy")
pytest.importorskip("cv2")

from filmed_room import BESIDE, SIZE, TURNING, K  # noqa: E402

from bridge.errors import LgdError  # noqa: E402
from bridge.keypoints import apart  # noqa: E402
from bridge.keypoints.shifts import STRETCH, STRETCHES, Shifts  # noqa: E402
from bridge.keypoints.surroundings import Surroundings  # noqa: E402
from bridge.train.room import looking  # noqa: E402


def shown(room, path, rate=30.0, every=lambda picture: picture):
    """What is kept of a room filmed along path, nobody in it."""
    shifts = Shifts(rate)
    for k, world in enumerate(path):
        shifts.add(k, every(room.picture(K, world, SIZE).astype(np.uint8)), [])
    return shifts


def test_it_is_seen_whether_a_camera_travels(room, monkeypatch):
    pytest.importorskip("pycolmap")
    assert shown(room, BESIDE, 15.0).travels() is True
    assert shown(room, TURNING, 15.0).travels() is False and shown(room, TURNING[:1].repeat(45, 0), 15.0).travels() is False
    assert shown(room, BESIDE, 15.0, lambda picture: np.zeros_like(picture)).travels() is False  # nothing is seen in the dark
    assert shown(room, BESIDE[:8], 15.0).travels() is None  # too short to tell: it is not said that it merely turns
    with pytest.raises(LgdError) as fault:
        shown(room, BESIDE, 15.0).travels(lambda: True)
    assert fault.value.code == "cancelled"
    with monkeypatch.context() as full:  # no reason to lose what was detected
        full.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(free=5e6))
        assert shown(room, BESIDE, 15.0).travels() is None
        full.setattr(tempfile, "tempdir", "/nowhere")
        assert shown(room, BESIDE, 15.0).travels() is None
    for size in ((1, 1000), (1000, 1), (3, 2), (4000, 8)):
        odd = Shifts(8.0)
        for k in range(24):
            odd.add(k, np.random.default_rng(k).integers(0, 255, (*size, 3), np.uint8), [])
        assert odd.travels() is False
    with monkeypatch.context() as broken:
        broken.setattr(apart, "START", "import os; os.abort()")
        assert shown(room, BESIDE, 15.0).travels() is None
    monkeypatch.setitem(sys.modules, "pycolmap", None)
    assert shown(room, BESIDE, 15.0).travels() is None


def test_a_cut_is_no_way_that_the_camera_went(room):
    """Two takes of one room, each from where its camera turns."""
    pytest.importorskip("pycolmap")
    elsewhere = [looking(np.array([1.5, -3.6, 1.5]), np.array([x, 0.2, 0.9])) for x in np.linspace(-0.2, 0.2, 6)]
    pictures = [room.picture(K, world, SIZE).astype(np.uint8) for world in (*TURNING[:36:2], *elsewhere)]
    surroundings = Surroundings(7.5)
    for index, picture in enumerate(pictures):
        surroundings.add(index, picture, [])
    surroundings.wait()
    camera = surroundings.camera(SIZE, {10: (pictures[10], []), 20: (pictures[20], [])}, range(18), None, lambda: None)
    surroundings.close()
    assert camera["camera_travels"] is False
    assert set(camera["lines"][:, 0]) == {10}, "the other take's camera stands elsewhere"


def test_what_is_looked_at_of_a_long_clip_is_spread_over_it():
    shifts = Shifts(8.0)
    picture = np.zeros((9, 16, 3), np.uint8)
    for k in range(4000):
        shifts.add(k, picture, [])
    kept = np.array(sorted(shifts._kept)).reshape(-1, STRETCH)
    assert STRETCHES / 2 < len(kept) <= STRETCHES and kept[-1, 0] > 2900 and (np.diff(kept) == 1).all()
