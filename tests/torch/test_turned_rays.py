# SPDX-License-Identifier: GPL-3.0-or-later
"""How far a camera turned, told by rays: of a wide lens far more exactly than by pictures that are laid on each other as flat."""

from types import SimpleNamespace

import numpy as np
import pytest

cv2 = pytest.importorskip("cv2", reason="opencv-python is not installed")

from filmed_room import SIZE, furnished
from scipy.spatial.transform import Rotation

from bridge.camera import camera_matrix
from bridge.errors import LgdError
from bridge.keypoints.background import Background
from bridge.keypoints.tracks import Keypoints
from bridge.keypoints.turned_rays import laid, moves, turns_of
from bridge.lgd.steady import zooms
from bridge.remarks import turning_camera
from bridge.train.room import looking

WIDE = 450.0


def test_moves_are_what_turns_are_made_of():
    rng = np.random.default_rng(0)
    turns = Rotation.from_rotvec(np.concatenate((np.zeros((1, 3)), rng.normal(0, 0.4, (30, 3))))).as_matrix()
    told = moves(turns, np.linspace(1, 2, 31), 700.0)
    assert np.abs(turns_of(told, camera_matrix(700.0, *SIZE)) - turns).max() < 1e-9 and told[-1, 3] == 2


@pytest.mark.parametrize("end", [1.0, 0.7], ids=["", "seeming to shrink"])
@pytest.mark.parametrize("pitch", [0.0, 0.15])
def test_a_turn_nearly_all_round_is_told_by_a_lens_that_the_background_did_not_know(pitch, end):
    """Moves in pixels of the assumed lens, and a lens that somebody told, or that was guessed later: past half way round it jumped by 45 degrees and more."""
    there = np.array([[np.sin(a), np.cos(a), -pitch] for a in np.radians(np.linspace(0, 300, 121))])
    true = np.stack([looking(np.zeros(3), at) for at in there])[:, :3, :3]
    true = true[0].T @ true
    focal, assumed, sizes = 600.0, 734.0, np.geomspace(1, end, 121)
    seen = [np.eye(3)]
    for k in range(120):  # as the wrong lens takes what moves the picture from each frame to the next
        step = Rotation.from_matrix(true[k].T @ true[k + 1]).as_rotvec() * (np.array([1, 1, 0]) * focal * sizes[k] / assumed + (0, 0, 1))
        seen.append(seen[-1] @ Rotation.from_rotvec(step).as_matrix())
    told = moves(np.array(seen), sizes, assumed)
    found = turns_of(told, camera_matrix(focal, *SIZE), assumed)
    assert np.degrees(Rotation.from_matrix(np.swapaxes(found, 1, 2) @ true).magnitude()).max() < 4
    assert off(told, true, focal) > 20  # made longer as a whole
    few = told[:1]  # a picture alone, and the same lens, are as they were
    assert turns_of(few, camera_matrix(focal, *SIZE), assumed).shape == (1, 3, 3)
    assert np.abs(turns_of(moves(true, np.ones(121), focal), camera_matrix(focal, *SIZE), focal) - true).max() < 1e-9


@pytest.mark.parametrize("degrees", [40, 170, 250, 350])
def test_the_user_is_told_by_how_much_it_turned(degrees):
    """Who looks down a little has half way round neither tilt nor roll alone."""
    there = np.array([[np.sin(a), np.cos(a), -0.05] for a in np.radians(np.linspace(0, degrees, 120))])
    path = np.tile(np.eye(4), (120, 1, 1))
    path[:, :3, :3] = np.stack([looking(np.zeros(3), at) for at in there])[:, :3, :3]
    told = moves(path[0, :3, :3].T @ path[:, :3, :3], np.ones(120), 600.0)
    motion = SimpleNamespace(cam_K=camera_matrix(600.0, *SIZE), T_world_cam=path, mode="video")
    assert f"up to {degrees} degrees" in turning_camera(told, motion, told_by=600.0)


@pytest.mark.parametrize("zoom", [1.0, 1.15])
def test_corners_that_go_another_way_have_no_say(zoom):
    rng = np.random.default_rng(1)
    turn = Rotation.from_rotvec((0.04, 0.15, -0.05)).as_matrix()  # from here to there
    there = rng.uniform(-1, 1, (50, 2)) * (240, 135)
    rays = np.column_stack((there, np.full(50, 400.0))) @ turn
    here = rays[:, :2] / rays[:, 2:] * 400.0 / zoom
    here[:15] += (25.0, -10.0)  # a train
    about = np.array(((1, 0, 60.0), (0, 1, -16.0), (0, 0, 1)))
    found, size = laid(here, there, 400.0, about, zoom != 1)
    assert Rotation.from_matrix(found.T @ turn).magnitude() < 0.003 and size == pytest.approx(zoom, abs=0.003)


@pytest.fixture(scope="module", params=[1.0, 0.7], ids=["turned", "turned and zoomed"])
def panned(request):
    """A background that saw a wide lens turn by 50 degrees and become so many times as long, and the truth of each frame."""
    room, background, worlds = furnished(), Background(), []
    lengths = WIDE * np.geomspace(1, request.param, 60)
    for angle, focal in zip(np.radians(np.linspace(-25, 25, 60)), lengths, strict=True):
        place = np.array([0, -4, 1.5])
        worlds.append(looking(place, place + (4 * np.tan(angle), 4, -0.5 - angle)))
        picture = room.picture(camera_matrix(focal, *SIZE), worlds[-1], SIZE)
        background.add(np.clip(picture, 0, 255).astype(np.uint8), [])
    turns = np.array(worlds)[:, :3, :3]
    return background, turns[0].T @ turns, WIDE / lengths


def off(told, true, focal):
    found = turns_of(told, camera_matrix(focal, *SIZE))
    return np.degrees(Rotation.from_matrix(np.swapaxes(found, 1, 2) @ true).magnitude()).max()


def test_a_wide_lens_is_told_to_turn_as_it_does(panned):
    background, true, sizes = panned
    zoomed = sizes[-1] != 1
    told = background.turns_seen_by(WIDE, zoomed, *SIZE)
    assert off(told, true, WIDE) < 0.4 < 0.5 * off(background.turns(*SIZE), true, WIDE)
    assert np.abs(told[:, 3] - sizes).max() < 0.01
    # Nor does a pan look like a zoom, or hide one, where the lens is only guessed.
    guessed = background.turns_seen_by(1.3 * WIDE, True, *SIZE)
    seen = Keypoints(np.zeros((1, 60, 17, 2)), np.ones((1, 60, 17)), "coco17", SIZE, fps=30.0, camera_turns=guessed, camera_travels=False)
    assert zooms(seen, 1.3 * WIDE) == zoomed
    # In the pixels of larger pictures, of which those looked at are small ones, it is the same.
    larger = background.turns_seen_by(2 * WIDE, zoomed, 2 * SIZE[0], 2 * SIZE[1])
    assert np.abs(larger - told * (2, 2, 1, 1)).max() < 1e-6


def test_frames_that_show_nothing_are_as_those_before():
    background = Background()
    for _ in range(4):
        background.add(np.full((90, 160, 3), 100, np.uint8), [])
    assert background.turns_seen_by(200.0, True, 160, 90) == pytest.approx(np.tile((0.0, 0, 0, 1), (4, 1)))


def test_a_long_clips_turns_are_cancelled():
    """Ten thousand frames take a quarter of a minute."""
    background, asked = Background(), []
    for _ in range(4):
        background.add(np.full((90, 160, 3), 100, np.uint8), [])

    def go_on():
        asked.append(0)
        if len(asked) == 3:
            raise LgdError("cancelled")

    with pytest.raises(LgdError):
        background.turns_seen_by(200.0, True, 160, 90, go_on)
    assert len(asked) == 3
