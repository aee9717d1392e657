# SPDX-License-Identifier: GPL-3.0-or-later
"""The focal length of a camera that turns, told by its background alone."""

import numpy as np
import pytest

cv2 = pytest.importorskip("cv2", reason="opencv-python is not installed")

from dataclasses import replace

from filmed_room import SIZE, furnished

from bridge import selftest
from bridge.keypoints.shifts import Shifts
from bridge.keypoints.tracks import Keypoints
from bridge.keypoints.turned_lens import turned_focal
from bridge.lgd.fitter import FitOptions, fit
from bridge.train.room import looking

MIDDLE = (np.array(SIZE) - 1) / 2


@pytest.fixture(scope="module")
def room():
    return furnished()


def filmed(room, degrees: float, focal: float, zoom: float = 1.0, sway: float = 0.0, count: int = 12):
    """Pictures of a camera that turns so far while its lens goes from `focal` to `zoom` times that, and the turns told of it."""
    pictures, turns = {}, np.zeros((4 * count, 4))
    for k, angle in enumerate(np.radians(np.linspace(-degrees / 2, degrees / 2, count))):
        f = focal * zoom ** (k / (count - 1))
        place = np.array([sway * np.sin(2.0 * k), -4, 1.5])
        world = looking(place, place + (4 * np.tan(angle), 4, -0.5))
        lens = np.array([[f, 0, MIDDLE[0]], [0, f, MIDDLE[1]], [0, 0, 1]])
        grey = cv2.cvtColor(np.clip(room.picture(lens, world, SIZE), 0, 255).astype(np.uint8), cv2.COLOR_BGR2GRAY)
        pictures[4 * k] = grey, np.full(grey.shape, 255, np.uint8)
        turns[4 * k : 4 * k + 4] = f * np.tan(angle), 0, 0, 1
    return pictures, turns


@pytest.mark.parametrize(("focal", "degrees"), [(560.0, 30.0), (900.0, 18.0), (400.0, 40.0)])
def test_a_turn_tells_the_lens(room, focal, degrees):
    pictures, turns = filmed(room, degrees, focal)
    assert turned_focal(pictures, turns, SIZE) == pytest.approx(focal, rel=0.03)
    # So it does in the pixels of larger pictures, of which those looked at are small ones.
    larger = turns * (2, 2, 1, 1)
    assert turned_focal(pictures, larger, (2 * SIZE[0], 2 * SIZE[1])) == pytest.approx(2 * focal, rel=0.03)


def test_a_hand_that_sways_a_little_does_not_spoil_it(room):
    assert turned_focal(*filmed(room, 30.0, 560.0, sway=0.03), SIZE) == pytest.approx(560.0, rel=0.06)


def test_what_does_not_tell_it(room):
    assert turned_focal(*filmed(room, 3.0, 560.0), SIZE) is None  # hardly turned
    assert turned_focal(*filmed(room, 20.0, 450.0, zoom=2.0), SIZE) is None
    pictures, turns = filmed(room, 30.0, 560.0)
    blank = {frame: (np.full_like(grey, 128), free) for frame, (grey, free) in pictures.items()}
    assert turned_focal(blank, turns, SIZE) is None and turned_focal({}, turns, SIZE) is None
    crowded = {frame: (grey, np.zeros_like(free)) for frame, (grey, free) in pictures.items()}
    assert turned_focal(crowded, turns, SIZE) is None


def test_the_detections_pictures_tell_it(room):
    pictures, turns = filmed(room, 30.0, 560.0)
    shifts = Shifts(30.0)
    for frame, (grey, _) in pictures.items():
        shifts.add(frame, cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR), [])
    assert shifts.lens(turns) == pytest.approx(560.0, rel=0.03)


def test_a_fit_takes_the_lens_that_the_background_tells():
    points, confidence = selftest._standing()
    seen = Keypoints(points[None], confidence[None], "coco17", selftest.SIZE, fps=30.0, camera_focal=1234.5)
    found = fit(seen, FitOptions(device="cpu"))[0]
    assert found.cam_K[0, 0] == 1234.5 and found.focal_source == "estimated"
    assert fit(seen, FitOptions(device="cpu", focal=900.0))[0].cam_K[0, 0] == 900.0
    told = replace(seen, cam_K=np.array([[800.0, 0, 640], [0, 800.0, 360], [0, 0, 1]]))
    assert fit(told, FitOptions(device="cpu"))[0].cam_K[0, 0] == 800.0
    assert fit(seen, FitOptions(device="cpu", mode="paper"))[0].focal_source == "assumed"  # takes every lens for a normal one
