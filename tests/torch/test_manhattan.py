# SPDX-License-Identifier: GPL-3.0-or-later
"""The lens and what is up, told by straight lines of the background."""

import numpy as np
import pytest

cv2 = pytest.importorskip("cv2", reason="opencv-python is not installed")

from dataclasses import replace

from scipy.spatial.transform import Rotation

from bridge import selftest
from bridge.camera import camera_matrix
from bridge.errors import LgdError
from bridge.keypoints.detect import detect
from bridge.keypoints.straight_lines import straight_lines
from bridge.keypoints.tracks import Keypoints
from bridge.keypoints.turned_rays import moves
from bridge.lgd.fitter import FitOptions, fit
from bridge.lgd.manhattan import told_focal, told_up
from bridge.train.room import looking

SIZE, FRAMES = (1280, 720), 6
rng = np.random.default_rng(0)
# Edges of a room and its furniture, along three directions.
STARTS = rng.uniform((-3, 1, 0), (3, 6, 2.6), (110, 3))
ALONG = Rotation.from_euler("z", 25, degrees=True).as_matrix()[rng.integers(0, 3, 110)] * rng.uniform(0.4, 1.5, (110, 1))


def view(path, focal=1000.0, noise=0.4, others=25, starts=STARTS, along=ALONG, **more):
    """Keypoints of nobody, before cameras T_world_cam (F, 4, 4) that see the edges, and others that run as they like."""
    draw, lines = np.random.default_rng(1), []
    for frame in {0, len(path) // 2, len(path) - 1}:
        T, K = path[frame], camera_matrix(focal, *SIZE)
        ends = np.stack((starts, starts + along), 1)
        there = (ends - T[:3, 3]) @ T[:3, :3]
        px = there[..., :2] / there[..., 2:] * focal + K[:2, 2]
        seen = (there[..., 2] > 0.2).all(-1) & ((px > 0) & (px < SIZE)).all((-1, -2)) & (np.linalg.norm(px[:, 1] - px[:, 0], axis=-1) > 40)
        px = px[seen] + draw.normal(0, noise, (seen.sum(), 2, 2))
        middle, turn = draw.uniform(0, 1, (others, 2)) * SIZE, draw.uniform(0, np.pi, others)
        odd = np.stack((np.cos(turn), np.sin(turn)), -1) * draw.uniform(30, 60, (others, 1))
        px = np.concatenate((px, np.stack((middle - odd, middle + odd), 1)))
        lines.append(np.column_stack((np.full(len(px), frame), px.reshape(-1, 4))))
    return Keypoints(np.zeros((1, len(path), 17, 2)), np.ones((1, len(path), 17)), "coco17", SIZE, fps=30.0, lines=np.concatenate(lines), **more)


def standing(pitch=12.0, roll=4.0):
    world = looking(np.array([0.3, -1.0, 1.5]), np.array([0.3, 1.0, 1.5 - 2 * np.tan(np.radians(pitch))]), np.radians(roll))
    return np.tile(world, (FRAMES, 1, 1))


def leaning(up, degrees, axis):
    return Rotation.from_rotvec(np.radians(degrees) * np.roll((1.0, 0, 0), axis)).apply(up)


def off(one, other):
    return np.degrees(np.arccos(np.clip(one @ other, -1, 1)))


@pytest.mark.parametrize("focal", [750.0, 1000.0, 1500.0])
@pytest.mark.parametrize("pitch", [-8.0, 15.0])
def test_a_room_tells_the_lens_and_what_is_up(focal, pitch):
    path = standing(pitch)
    seen, true = view(path, focal), path[0, 2, :3]
    for axis in (0, 2):  # what the body tells is off
        about = leaning(true, 5.0, axis)
        assert told_focal(seen, about) == pytest.approx(focal, rel=0.04)
        assert off(told_up(seen, camera_matrix(focal, *SIZE), about, True), true) < 0.7
        guessed = told_up(seen, camera_matrix(focal, *SIZE), about, False)  # others, shorter and longer, may not tell the same
        assert guessed is None or off(guessed, true) < 0.7


def test_where_the_lens_is_looked_from_counts_little():
    path = standing()
    seen, true = view(path), path[0, 2, :3]
    starts = [leaning(leaning(true, tilt, 0), roll, 2) for tilt in (-6.0, -2.0, 1.0, 5.0) for roll in (-4.0, 0.0, 3.0)]
    found = np.array([told_focal(seen, about) for about in starts])
    assert found == pytest.approx(1000, rel=0.01) and found.std() < 1, "px"


def test_a_camera_that_turns_sees_them_in_its_first_frames_axes():
    path = standing()
    path[:, :3, :3] = path[:, :3, :3] @ Rotation.from_rotvec(np.outer(np.linspace(0, 0.3, FRAMES), (0.1, 1, 0.1))).as_matrix()
    turns = np.einsum("ab,fbc->fac", path[0, :3, :3].T, path[:, :3, :3])
    seen, true = view(path, camera_turns=moves(turns, np.ones(FRAMES), 1000.0)), path[0, 2, :3]
    about = leaning(true, 4.0, 0)
    assert told_focal(seen, about) == pytest.approx(1000, rel=0.04)
    assert off(told_up(seen, camera_matrix(1000, *SIZE), about, True), true) < 0.7
    alone = seen.cut(FRAMES - 1, FRAMES)  # and in the last frame's, where that is the first
    assert 0 < len(alone.lines) < len(seen.lines) and set(alone.lines[:, 0]) == {0}
    assert off(told_up(alone, camera_matrix(1000, *SIZE), leaning(path[-1, 2, :3], 4.0, 0), True), path[-1, 2, :3]) < 1


def test_of_a_zoom_they_tell_the_first_lens():
    from bridge.lgd.steady import fit_zoomed

    path, sizes = standing(), np.geomspace(1, 0.7, FRAMES)
    seen = view(path, 1000.0, camera_turns=np.column_stack((np.zeros((FRAMES, 3)), sizes)), camera_travels=False)
    middle = (np.array(SIZE) - 1) / 2
    ends = seen.lines[:, 1:].reshape(-1, 2, 2)
    longer = (1 / sizes)[seen.lines[:, 0].astype(int), None, None]
    zoomed = replace(seen, lines=np.column_stack((seen.lines[:, 0], (middle + (ends - middle) * longer).reshape(-1, 4))))
    told = []

    def before(kept):
        told.append(told_focal(kept, leaning(path[0, 2, :3], 4.0, 0)))
        raise StopIteration

    with pytest.raises(StopIteration):
        fit_zoomed(zoomed, middle, before)
    assert told[0] == pytest.approx(1000, rel=0.04) and told_focal(replace(zoomed, camera_turns=None), leaning(path[0, 2, :3], 4.0, 0)) != told[0]


def test_what_does_not_tell():
    path, about = standing(), leaning(standing()[0, 2, :3], 4.0, 0)
    K = camera_matrix(1000, *SIZE)
    wild = view(path, others=150, starts=STARTS[:0], along=ALONG[:0])
    assert told_focal(wild, about) is None and told_up(wild, K, about, False) is None
    few = replace(view(path), lines=view(path).lines[:20])
    points = np.repeat(few.lines[:, :3], 40, 0)[:, [0, 1, 2, 1, 2]]  # no lines
    for seen in (few, replace(few, lines=None), replace(few, lines=points)):
        assert told_focal(seen, about) is None and told_up(seen, K, about, True) is None
    assert told_up(view(path), np.tile(K, (FRAMES, 1, 1)), about, True) is None  # a zoom
    level = looking(np.array([0.0, -6, 1.5]), np.array([0.0, 1, 1.5]))  # straight at a wall: any lens will do
    wall = ALONG[np.abs(ALONG[:, 2]) > 0.1]
    assert told_focal(view(np.tile(level, (FRAMES, 1, 1)), starts=STARTS[: len(wall)], along=wall), level[2, :3]) is None


def test_lines_are_kept_with_the_keypoints(tmp_path):
    seen = view(standing())
    seen.save(tmp_path / "k.npz")
    again = Keypoints.load(tmp_path / "k.npz")
    assert np.allclose(again.lines, seen.lines) and again.person(0).lines is not None
    assert set(seen.cut(2, 4).lines[:, 0]) == {0, 1} and len(seen.cut(2, 4).lines) == len(seen.lines)  # one that stands sees them in any frame
    for wrong in (seen.lines[:, :4], np.where(seen.lines == seen.lines[0, 1], np.nan, seen.lines), seen.lines + (FRAMES, 0, 0, 0, 0)):
        with pytest.raises(LgdError, match="lines"):
            replace(seen, lines=wrong)


def test_lines_of_a_picture():
    picture = np.full((300, 500, 3), 90, np.uint8)
    cv2.rectangle(picture, (100, 60), (220, 240), (200, 200, 200), -1)
    cv2.rectangle(picture, (320, 60), (420, 240), (200, 200, 200), -1)
    person = np.array([[320.0, 60], [420, 240]])
    found = straight_lines(picture, [person])
    upright = found[np.abs(found[:, 0] - found[:, 2]) < 2]
    assert len(upright) and np.abs(upright[:, 0, None] - (100, 221)).min(1).max() < 2  # none of where somebody is
    large = straight_lines(cv2.resize(picture, (2000, 1200), interpolation=cv2.INTER_NEAREST), [4 * person])
    assert np.abs(np.sort(large[:, 0]) - np.sort(4 * found[:, 0])).max() < 12
    for nothing in (np.full((200, 300, 3), 7, np.uint8), np.full((4, 900, 3), 7, np.uint8)):
        assert straight_lines(nothing, []).shape == (0, 4)


def test_footage_of_a_room_tells_them(lgd_data):
    pytest.importorskip("mediapipe", reason="mediapipe is not installed")
    file = np.load(lgd_data / "multiview" / "beam_walk.npz")
    for c in (0, 3):
        seen = detect(lgd_data / "multiview" / f"cam0{c + 1}.mp4", fast=True).person(0)
        true, focal = file["R"][c] @ (0, 0, 1.0), float(file["K"][c][0, 0])
        guessed, told = (fit(replace(seen, **more), FitOptions(device="cpu"))[0] for more in ({"lines": None}, {}))
        assert told.cam_K[0, 0] == pytest.approx(focal, rel=0.025) and told.focal_source == "estimated"
        assert off(told.T_world_cam[2, :3], true) < 1.5 < off(guessed.T_world_cam[2, :3], true)
        paper = fit(seen, FitOptions(device="cpu", mode="paper"))[0]
        assert np.array_equal(paper.poses, fit(replace(seen, lines=None), FitOptions(device="cpu", mode="paper"))[0].poses)


def test_one_picture_of_a_room_tells_them(lgd_data):
    """Whether its camera travels it cannot tell, nor need it."""
    pytest.importorskip("mediapipe", reason="mediapipe is not installed")
    file = np.load(lgd_data / "multiview" / "beam_walk.npz")
    seen = detect(lgd_data / "multiview" / "cam03.mp4", frames=(50, 51)).person(0)
    told = fit(seen, FitOptions(device="cpu"))[0]
    assert seen.camera_travels is None and told.cam_K[0, 0] == pytest.approx(float(file["K"][2][0, 0]), rel=0.03)
    assert off(told.T_world_cam[2, :3], file["R"][2] @ (0, 0, 1.0)) < 4


def test_a_hand_that_sways_spoils_it_not(lgd_data):
    """The fit before a camera that turns is one before a steadier camera, which sees the lines elsewhere."""
    points, confidence = selftest._standing()
    path = standing(3.0, 1.0)
    path = np.tile(path[0], (len(points), 1, 1))
    path[:, :3, :3] = path[:, :3, :3] @ Rotation.from_rotvec(0.1 * np.sin(np.outer(np.arange(len(points)), (1.0, 2, 3)))).as_matrix()
    turns = np.einsum("ab,fbc->fac", path[0, :3, :3].T, path[:, :3, :3])
    K = camera_matrix(1000, *SIZE)
    rays = np.concatenate(((points - K[:2, 2]) / 1000, np.ones((*points.shape[:2], 1))), -1)
    there = np.einsum("fba,fkb->fka", turns, rays)
    seen = replace(view(path, camera_turns=moves(turns, np.ones(len(path)), 1000.0)), keypoints=(there[..., :2] / there[..., 2:] * 1000 + K[:2, 2])[None], confidence=confidence[None], camera_travels=False)
    found = fit(seen, FitOptions(device="cpu", focal=1000.0))[0]
    assert off(found.T_world_cam[0, 2, :3], path[0, 2, :3]) < 1 and found.world_confidence >= 0.9


def test_a_camera_that_looks_up_and_down_is_told_its_lens():
    """What is up is found before a camera in the middle of the turns, which leans by more against the first than is looked for."""
    points, confidence = selftest._standing()
    path = np.concatenate([standing(pitch)[:1] for pitch in np.linspace(-14, 26, len(points))])
    turns = np.einsum("ab,fbc->fac", path[0, :3, :3].T, path[:, :3, :3])
    middle = Rotation.from_matrix(turns).mean().as_matrix()
    K = camera_matrix(1000, *SIZE)
    rays = np.concatenate(((points - K[:2, 2]) / 1000, np.ones((*points.shape[:2], 1))), -1)
    there = np.einsum("fba,fkb->fka", turns, rays @ middle.T)  # who is seen by the one in the middle
    seen = replace(
        view(path, camera_turns=moves(turns, np.ones(len(path)), 1000.0)), keypoints=(there[..., :2] / there[..., 2:] * 1000 + K[:2, 2])[None],
        confidence=confidence[None], camera_travels=False,
    )  # fmt: skip
    assert fit(seen, FitOptions(device="cpu"))[0].cam_K[0, 0] == pytest.approx(1000, rel=0.04)
    assert fit(replace(seen, lines=None), FitOptions(device="cpu"))[0].cam_K[0, 0] != pytest.approx(1000, rel=0.04)
