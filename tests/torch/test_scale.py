# SPDX-License-Identifier: GPL-3.0-or-later
"""The world of a camera that travels: its path's size, place and attitude from the ground and the person."""

import pytest

np = pytest.importorskip("numpy")
torch = pytest.importorskip("torch")
pytest.importorskip("cv2")

from filmed_room import BESIDE, FOCAL, FRAMES, WALK, T, keypoints  # noqa: E402
from scipy.spatial.transform import Rotation  # noqa: E402

from bridge.keypoints.camera_path import CameraPath  # noqa: E402
from bridge.lgd.fitter import FitOptions, fit  # noqa: E402
from bridge.lgd.scale import (  # noqa: E402
    Steps,
    behind,
    beside_the_feet,
    by_the_ground,
    ground_plane,
    metric_path,
    turning_path,
)
from bridge.train.room import looking  # noqa: E402

UNKNOWN = np.eye(4)  # a world of its own, as a reconstruction has it
UNKNOWN[:3, :3], UNKNOWN[:3, 3] = Rotation.from_rotvec([0.4, -1.0, 2.0]).as_matrix(), (3, 1, -2)


def steps(path):
    """Soles (F, 4, 3) before the camera of who walks along WALK with the world's ground at z = 0: one foot rests, the other swings."""
    stride = 0.6
    at = np.zeros((FRAMES, 4, 3))
    for foot in (0, 1):
        phase = WALK[:, 0] / stride + foot  # rests in every other stride
        rest, swing = np.floor(phase / 2) * 2, np.clip(phase % 2 - 1, 0, 1)
        x = (rest + 1 - foot + 2 * swing * swing * (3 - 2 * swing)) * stride
        for sole in (0, 1):
            at[:, 2 * foot + sole] = np.stack((x + 0.2 * sole, np.full(FRAMES, 0.1 - 0.2 * foot), 0.1 * np.sin(np.pi * swing)), -1)
    return np.einsum("fba,fkb->fka", path[:, :3, :3], at - path[:, None, :3, 3])


def unscaled(size, points=()):
    world = UNKNOWN @ BESIDE
    world[:, :3, 3] = world[:, :3, 3] / size
    points = np.asarray(points, float).reshape(-1, 3) @ UNKNOWN[:3, :3].T + UNKNOWN[:3, 3]
    return CameraPath(world, points / size, FOCAL, 0.5)


UP = UNKNOWN[:3, :3] @ (0, 0, 1)
OFF = Rotation.from_rotvec([0.1, 0, 0]).apply(UP)  # as a body's own balance tells it


def furniture(rng):
    return np.column_stack((rng.uniform(-1, 3, (150, 2)) * (1, 0.5), rng.uniform(0.1, 1.4, 150)))


def ground(rng):
    return np.column_stack((rng.uniform(-1, 3, (300, 2)) * (1, 0.5), rng.normal(0, 0.01, 300)))


def plane_of(path):
    return ground_plane(path, OFF, beside_the_feet(path, OFF, steps(BESIDE), np.ones(FRAMES, bool)))


def test_the_ground_is_a_plane_that_tells_what_is_up_and_with_the_feet_the_size():
    rng, seen = np.random.default_rng(1), np.ones(FRAMES, bool)
    path = unscaled(3.7, np.concatenate((ground(rng), furniture(rng))))
    near = beside_the_feet(path, OFF, steps(BESIDE), seen)
    assert 30 < near.sum() < 0.6 * len(near)
    normal, level, told = ground_plane(path, OFF, near)
    assert told
    assert np.degrees(np.arccos(normal @ UP)) < 0.5
    assert 3.7 * level == pytest.approx(UNKNOWN[:3, 3] @ UP, abs=0.02)
    assert by_the_ground(path, normal, level, steps(BESIDE), seen) == pytest.approx(3.7, rel=0.03)
    jumps = steps(BESIDE)
    jumps[: FRAMES // 2] += np.einsum("fba,b->fa", BESIDE[: FRAMES // 2, :3, :3], (0, 0, 0.7))[:, None]  # for half of the time in the air
    assert by_the_ground(path, normal, level, jumps, seen) == pytest.approx(3.7, rel=0.03)
    assert plane_of(unscaled(3.7, furniture(rng))) is None
    assert plane_of(unscaled(3.7, ground(rng) * (1, 0, 1))) is None  # a kerb says nothing of what is beside it
    assert plane_of(unscaled(3.7, ground(rng) + (0, 0, 4))) is None  # a ceiling
    assert plane_of(unscaled(3.7)) is None


def test_of_a_stage_and_the_street_below_it_that_is_the_ground_which_is_walked_on():
    """The street has three times the points."""
    rng = np.random.default_rng(1)
    stage = np.column_stack((rng.uniform(-0.6, 2.4, 150), rng.uniform(-0.9, 0.9, 150), rng.normal(0, 0.01, 150)))
    street = np.column_stack((rng.uniform(-8, 10, (450, 2)) * (1, 0.8), rng.normal(-1.2, 0.01, 450)))
    normal, level, _ = plane_of(unscaled(3.7, np.concatenate((stage, street))))
    assert np.degrees(np.arccos(normal @ UP)) < 1 and 3.7 * level == pytest.approx(UNKNOWN[:3, 3] @ UP, abs=0.03)


def test_feet_that_rest_tell_the_size_where_no_ground_is_seen():
    seen = np.ones(FRAMES, bool)
    assert Steps(unscaled(3.7).world, steps(BESIDE), seen, T).size() == pytest.approx(3.7, rel=0.05)


def test_who_is_seen_before_the_background_is_not_behind_it():
    """Of who hovers by, as feet that no step tells of, the size that their feet tell would be any."""
    rng, seen = np.random.default_rng(1), np.ones(FRAMES, bool)
    wall = np.column_stack((rng.uniform(-3, 5, 200), np.full(200, 2.0), rng.uniform(0, 2, 200)))
    pelvis = np.einsum("fba,fb->fa", BESIDE[:, :3, :3], WALK + (0, 0, 0.9) - BESIDE[:, :3, 3])
    path = unscaled(3.7, wall)
    least = behind(path, pelvis, seen)
    assert 0.4 * 3.7 < least < 3.7
    carried = np.repeat(steps(BESIDE)[:1], FRAMES, 0)  # before the camera they stay where they are
    assert Steps(path.world, carried, seen, T).size() < 0.1 * 3.7 < Steps(path.world, carried, seen, T).size(least)
    assert behind(unscaled(3.7, wall + (50, 0, 0)), pelvis, seen) == 0


def test_a_plane_on_which_feet_would_not_rest_is_not_the_ground():
    rng, seen, joints = np.random.default_rng(1), np.ones(FRAMES, bool), np.zeros((FRAMES, 24, 3))
    joints[:, :, 1] = -np.linspace(-0.9, 0.7, 24)
    pelvis = np.einsum("fba,fb->fa", BESIDE[:, :3, :3], WALK + (0, 0, 0.9) - BESIDE[:, :3, 3])
    for below, grounded in ((0.0, True), (0.6, False), (3.0, False)):  # of who walks on a stage, or a roof, the hall or the street is seen
        path = unscaled(3.7, ground(rng) - (0, 0, below))
        world, told = metric_path(path, UP, pelvis, joints, steps(BESIDE) - pelvis[:, None], seen, T)
        assert told is grounded
        assert np.linalg.norm(world[-1, :3, 3] - world[0, :3, 3]) == pytest.approx(np.linalg.norm(BESIDE[-1, :3, 3] - BESIDE[0, :3, 3]), rel=0.08)


def test_who_skates_along_is_as_fast_as_the_camera():
    """Their feet rest before the camera, and nowhere in the world."""
    rng, seen, joints = np.random.default_rng(1), np.ones(FRAMES, bool), np.zeros((FRAMES, 24, 3))
    stands = np.zeros((FRAMES, 4, 3)) + ((0.2, 0.1, 0), (0.4, 0.1, 0), (-0.4, -0.1, 0), (-0.2, -0.1, 0)) + 3 * WALK[:, None]
    fast = np.stack([looking(p + (0, -4, 1.5), p + (0, 0, 0.9)) for p in 3 * WALK])
    inside = lambda points: np.einsum("fba,fkb->fka", fast[:, :3, :3], points - fast[:, None, :3, 3])  # noqa: E731
    pelvis = inside(3 * WALK[:, None] + (0, 0, 0.9))[:, 0]
    world = UNKNOWN @ fast
    world[:, :3, 3] /= 3.7
    points = ground(rng) * (2, 1, 1)
    path = CameraPath(world, (points @ UNKNOWN[:3, :3].T + UNKNOWN[:3, 3]) / 3.7, FOCAL, 0.5)
    found, told = metric_path(path, UP, pelvis, joints, inside(stands) - pelvis[:, None], seen, T)
    assert told and np.linalg.norm(found[-1, :3, 3] - found[0, :3, 3]) == pytest.approx(3 * WALK[-1, 0], rel=0.03)


def test_before_a_camera_that_turns_too_the_ground_is_what_somebody_lies_on():
    turn = Rotation.from_euler("y", np.linspace(0, 60, FRAMES)[:, None], degrees=True).as_matrix()
    inside = lambda points: np.einsum("fba,fkb->fka", turn, np.broadcast_to(points, (FRAMES, len(points), 3)))  # noqa: E731
    pelvis = inside(np.array([[0.0, 1.0, 4.0]]))[:, 0]  # y down
    soles, skin = inside(np.full((4, 3), (0.8, 0.0, 0.0))), inside(np.array([[0.0, 0.13, 0.0], [0.0, -0.1, 0.0]])).astype(np.float32)
    path = np.tile(np.eye(4), (FRAMES, 1, 1))
    path[:, :3, :3] = turn
    told = path, np.array([0.0, -1, 0]), pelvis, np.zeros((FRAMES, 24, 3)), soles, np.ones(FRAMES, bool), T
    for points, lowest in ((None, soles), (skin, skin[:, :1])):
        world = turning_path(*told, points)
        height = np.einsum("fa,fka->fk", world[:, 2, :3], lowest + pelvis[:, None]) + world[:, 2, 3:]
        assert np.abs(height).max() < 1e-5


@pytest.mark.parametrize("mode", ["video", "paper"])
def test_who_is_walked_along_with_walks(room, mode):
    """Somebody who stands on the floor while the camera goes by is told to stand, in metres, upright, on the ground."""
    from bridge.body.files import load_body
    from bridge.body.smpl import BodyModel
    from bridge.keypoints.formats import LAYOUTS

    body = BodyModel(load_body(), "cpu")
    rotations = torch.eye(3).repeat(1, 24, 1, 1)
    upright = Rotation.from_euler("x", 90, degrees=True).as_matrix()
    posed = body.shaped(torch.zeros(10), "coco17").posed(rotations)
    lowest = posed.joints[0, :, 1].min().item() - 0.03
    points = posed.points[0].numpy()[np.maximum(LAYOUTS["coco17"].internal, 0)] @ upright.T - (0, 0, lowest)
    pelvis = -lowest
    past = np.stack([looking(np.array([1.2 * t - 1, -4, 1.5]), np.array([0, 0, 0.9])) for t in T])
    size = 0.2
    world = UNKNOWN @ past
    world[:, :3, 3] /= size
    rng = np.random.default_rng(2)
    floor = np.column_stack((rng.uniform(-3, 3, (400, 2)), np.zeros(400))) @ UNKNOWN[:3, :3].T + UNKNOWN[:3, 3]
    path = CameraPath(world, floor / size, FOCAL, 0.5)
    # What its turns seemed to tell of the lens goes before a path that was looked for all the same: that has a lens of its own.
    seen = keypoints(past, np.repeat(points[None], FRAMES, 0), camera_focal=2 * FOCAL)
    motion, _ = fit(seen, FitOptions(mode=mode, path=path, device="cpu"))
    assert motion.T_world_cam.shape == (FRAMES, 4, 4) and motion.focal_source == "estimated"
    assert float(motion.cam_K.reshape(-1, 3, 3)[0, 0, 0]) == pytest.approx(FOCAL)
    here = np.einsum("fab,fkb->fka", motion.T_world_cam[:, :3, :3], motion.joints) + motion.T_world_cam[:, None, :3, 3]
    went = np.linalg.norm(np.diff(motion.T_world_cam[[0, -1], :3, 3], axis=0))
    assert went == pytest.approx(1.2 * T[-1], rel=0.15)
    assert np.ptp(here[:, 0, :2], axis=0).max() < 0.25 and abs(here[:, 0, 2].mean() - pelvis) < 0.12
    floor_seen = np.einsum("ab,nb->na", motion.T_world_cam[0] @ np.linalg.inv(past[0]), np.column_stack((rng.uniform(-1, 1, (50, 2)), np.zeros(50), np.ones(50))))
    assert np.ptp(floor_seen[:, 2]) < 0.02 and abs(floor_seen[:, 2].mean()) < 0.1  # what is the floor in the picture is that of the world
    lean = here[:, 12] - here[:, 0]
    assert np.degrees(np.arccos(lean.mean(0)[2] / np.linalg.norm(lean.mean(0)))) < 12
    forward = motion.T_world_cam[0, :3, 2]
    assert abs(np.degrees(np.arctan2(forward[0], forward[1]))) < 1
