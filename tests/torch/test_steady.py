# SPDX-License-Identifier: GPL-3.0-or-later
"""Cameras that shake, pan away and stand nearly still, known or read off the background: the person moves as in the world, not as in the
picture."""

import dataclasses

import pytest

np = pytest.importorskip("numpy")
torch = pytest.importorskip("torch")

from scipy.spatial.transform import Rotation  # noqa: E402

from bridge.body.files import load_body  # noqa: E402
from bridge.body.smpl import BodyModel  # noqa: E402
from bridge.keypoints.formats import LAYOUTS  # noqa: E402
from bridge.keypoints.tracks import Keypoints  # noqa: E402
from bridge.keypoints.turned_rays import moves as moves_of  # noqa: E402
from bridge.keypoints.turned_rays import turns_of  # noqa: E402
from bridge.lgd.fitter import FitOptions, fit  # noqa: E402
from bridge.train.room import looking  # noqa: E402

FRAMES, SIZE = 60, (1280, 720)
K = np.array([[1000.0, 0, 639.5], [0, 1000, 359.5], [0, 0, 1]])


@pytest.fixture(scope="module")
def standing():
    """Landmarks (17, 3) and joints (24, 3) of somebody who stands at the world's origin, arms half down."""
    body = BodyModel(load_body(), "cpu")
    rotations = torch.eye(3).repeat(1, 24, 1, 1)
    for joint, angle in ((16, -1.0), (17, 1.0)):
        rotations[:, joint] = torch.as_tensor(Rotation.from_rotvec([0, 0, angle]).as_matrix())
    up = Rotation.from_euler("x", 90, degrees=True).as_matrix()
    posed = body.shaped(torch.zeros(10), "coco17").posed(rotations)
    points = posed.points[0].numpy()[np.maximum(LAYOUTS["coco17"].internal, 0)] @ up.T
    joints = posed.joints[0].numpy() @ up.T
    floor = np.array([0, 0, joints[:, 2].min() - 0.03])
    return points - floor, joints - floor


def orbit(degrees):
    angles = np.radians(-90 + np.linspace(0, degrees, FRAMES))
    return np.array([looking(np.array([5 * np.cos(a), 5 * np.sin(a), 1.6]), np.array([0, 0, 0.9])) for a in angles])


def shaken(path, degrees, metres):
    rng, t = np.random.default_rng(3), np.arange(FRAMES) / 30
    waves = sum(rng.normal(size=(6, 1)) * np.sin(2 * np.pi * f * t + rng.uniform(0, 6, (6, 1))) for f in (2.3, 3.1, 4.7, 6.1)) / 1.4
    out = path.copy()
    out[:, :3, :3] = path[:, :3, :3] @ Rotation.from_rotvec(np.radians(degrees) * waves[:3].T).as_matrix()
    out[:, :3, 3] += metres * waves[3:].T
    return out


def filmed(points, path, **more):
    inside = np.linalg.inv(path)
    seen = np.einsum("fab,kb->fka", inside[:, :3, :3], points) + inside[:, None, :3, 3]
    pixels = seen[..., :2] / seen[..., 2:] * 1000 + K[:2, 2]
    shown = (seen[..., 2] > 0) & (pixels > 0).all(-1) & (pixels < SIZE).all(-1)
    return Keypoints(np.where(shown[..., None], pixels, 0)[None], 0.9 * shown[None], "coco17", SIZE, **{"fps": 30.0, "cam_K": K} | more)


def in_world(motion):
    T = np.broadcast_to(motion.T_world_cam, (motion.frames, 4, 4))
    return np.einsum("fab,fkb->fka", T[:, :3, :3], motion.joints) + T[:, None, :3, 3]


@pytest.mark.parametrize("path", [shaken(orbit(30), 1.0, 0.02), shaken(orbit(0), 1.0, 0.02), orbit(70)], ids=["handheld", "held", "orbit"])
def test_a_cameras_motion_is_not_the_persons(standing, path):
    points, joints = standing
    motion, _ = fit(filmed(points, path), FitOptions(T_world_cam=path))
    world = in_world(motion)
    assert np.array_equal(motion.T_world_cam, path) and np.array_equal(motion.cam_K, K)
    assert np.linalg.norm(np.diff(world, axis=0), axis=-1).mean() < 0.003  # 0.02 and more before
    assert np.linalg.norm(world - joints, axis=-1).mean() < 0.12
    assert np.median(motion.reprojection_px) < 6
    told = motion.keypoints_3d @ K.T
    error = np.linalg.norm(told[..., :2] / told[..., 2:] - motion.keypoints, axis=-1)
    assert np.nanmean(error) == pytest.approx(np.nanmean(motion.reprojection_px), rel=0.05)


def test_who_is_not_seen_stays_in_the_world(standing):
    points, joints = standing
    path = orbit(0)
    turn = Rotation.from_euler("z", (np.clip(np.arange(FRAMES) - 20, 0, None) * 1.5)[:, None], degrees=True).as_matrix()
    path[:, :3, :3] = turn @ path[:, :3, :3]
    keypoints = filmed(points, path)
    assert (keypoints.confidence[0, -10:] == 0).all()
    for mode in ("video", "paper"):
        world = in_world(fit(keypoints, FitOptions(T_world_cam=path, mode=mode))[0])
        away = np.linalg.norm((world[-10:] - joints).mean(1), axis=-1)
        assert away.max() < 0.6, mode  # 2 m before


def test_papers_frames_stay_as_they_are_seen(standing):
    points, _ = standing
    path = shaken(orbit(30), 1.0, 0.02)
    keypoints = filmed(points, path)
    moving, trace = fit(keypoints, FitOptions(T_world_cam=path, mode="paper", trace=True))
    still, other = fit(keypoints, FitOptions(T_world_cam=path[0], mode="paper", trace=True))
    assert moving.poses == pytest.approx(still.poses, abs=1e-3) and moving.trans == pytest.approx(still.trans, abs=1e-2)
    assert trace["poses"] == pytest.approx(other["poses"], abs=1e-3)
    assert moving.reprojection_px == pytest.approx(still.reprojection_px, abs=0.1)


def test_a_moving_camera_of_unknown_lens(standing):
    points, _ = standing
    path = shaken(orbit(30), 0.3, 0.005)
    motion, _ = fit(dataclasses.replace(filmed(points, path), cam_K=None), FitOptions(T_world_cam=path))
    assert motion.focal_source == "estimated" and np.array_equal(motion.T_world_cam, path)
    assert np.linalg.norm(np.diff(in_world(motion), axis=0), axis=-1).mean() < 0.02  # its lens is guessed


def test_exchanged_labels_before_a_moving_camera_are_told_as_they_were_fitted(standing):
    points, _ = standing
    path = shaken(orbit(30), 0.3, 0.005)
    right = filmed(points, path)
    swapped = dataclasses.replace(right, keypoints=right.keypoints.copy())
    swapped.keypoints[:, 20:28] = right.keypoints[:, 20:28][:, :, LAYOUTS["coco17"].mirror]
    motion, _ = fit(swapped, FitOptions(T_world_cam=path))
    assert np.array_equal(motion.keypoints, right.keypoints[0]) and motion.reprojection_px.max() < 20


def test_labels_of_arms_that_are_guessed_are_told_as_they_were_fitted(lgd_data):
    """BlazePose's, of arms that it does not see: before a camera in the hand they were told by other labels than were fitted, and so off by 160 px."""
    beam = np.load(lgd_data / "multiview" / "beam_walk.npz")
    points, confidence = beam["kp2d_blaze"][1, ..., :2].astype(float), beam["kp2d_blaze"][1, ..., 2].clip(0, 1)
    confidence[:, 13:23] *= 0.02
    lens = np.array([[beam["K"][1, 0, 0], 0, 539.5], [0, beam["K"][1, 0, 0], 959.5], [0, 0, 1]])
    still = Keypoints(points[None], confidence[None], "blazepose33", (1080, 1920), fps=60, cam_K=lens)
    moves = np.column_stack((np.linspace(0, 60, len(points)), *np.zeros((2, len(points))), np.ones(len(points))))
    held = dataclasses.replace(still, keypoints=still.keypoints - moves[:, None, :2], camera_turns=moves, camera_travels=False)
    one, other = (fit(keypoints)[0] for keypoints in (still, held))
    assert np.array_equal(*(np.abs(motion.keypoints - told.keypoints[0]).max((1, 2)) > 1 for motion, told in ((one, still), (other, held))))
    assert np.abs(one.reprojection_px - other.reprojection_px).max() < 20


def turned_in_the_hand(degrees):
    """A camera's path (F, 4, 4) that turns where it stands, and what is told of it (F, 4)."""
    path = orbit(0)
    t = np.linspace(0, 3 * np.pi, FRAMES)
    moves = np.radians(degrees) * np.column_stack((np.sin(t), 0.5 * np.sin(1.7 * t), 0.3 * np.sin(0.7 * t), np.zeros(FRAMES)))
    moves[:, :2] *= K[0, 0]
    moves[:, 3] = 1
    path[:, :3, :3] = path[:, :3, :3] @ turns_of(moves, K)
    return path, moves


def test_what_is_told_of_a_picture_turns_the_camera():
    """What is seen in the middle of a picture lay so far from the first one's middle; turned clockwise it lies on the first."""
    turn = turns_of(np.array([[150.0, -80, 0, 1], [0, 0, 0.1, 1]]), K)
    middle = turn[0] @ (0, 0, 1)
    assert np.arctan2(*middle[[0, 2]]) > 0 and K[0, 0] * middle[:2] / middle[2] == pytest.approx([150, -80], rel=0.02)
    assert turn[1] @ (1, 0, 0) == pytest.approx([np.cos(0.1), np.sin(0.1), 0])


@pytest.mark.parametrize("degrees", [3, 25])
def test_a_camera_that_turns_in_the_hand_stands_in_a_world_of_its_own(standing, degrees):
    points, joints = standing
    path, moves = turned_in_the_hand(degrees)
    keypoints = filmed(points, path, camera_turns=moves, camera_focal=1000.0)
    motion, _ = fit(keypoints)
    still, _ = fit(filmed(points, orbit(0)))
    world = in_world(motion)
    assert motion.T_world_cam.shape == (FRAMES, 4, 4) and np.array_equal(motion.cam_K, K)
    assert np.ptp(motion.T_world_cam[:, :3, 3], axis=0).max() < 1e-6  # it turns where it stands
    assert abs(motion.T_world_cam[0, 0, 2]) < 1e-6 < motion.T_world_cam[0, 1, 2]  # and looks along +Y first
    assert np.abs(world[0, 0, :2]).max() < 1e-6
    relative = lambda T: np.linalg.inv(T[0, :3, :3]) @ T[:, :3, :3]  # noqa: E731
    assert np.abs(relative(motion.T_world_cam) - relative(path)).max() < 1e-6
    assert np.linalg.norm(np.diff(world, axis=0), axis=-1).mean() < 0.003
    untold = in_world(fit(filmed(points, path))[0])
    assert np.linalg.norm(np.diff(untold, axis=0), axis=-1).mean() > 0.004 * degrees
    assert np.abs(world[..., 2] - in_world(still)[..., 2]).mean() < 0.06  # as high, and as upright
    assert (motion.contacts[5:-5] > 0.5).mean() > 0.8 and np.median(motion.reprojection_px) < 6
    told = motion.keypoints_3d @ K.T
    error = np.linalg.norm(told[..., :2] / told[..., 2:] - motion.keypoints, axis=-1)[motion.confidence > 0]
    assert np.nanmean(error) == pytest.approx(np.nanmean(motion.reprojection_px), rel=0.05)


def test_a_known_camera_goes_before_what_the_background_tells(standing):
    points, _ = standing
    path, moves = turned_in_the_hand(3)
    told, _ = fit(filmed(points, path, camera_turns=3 * moves), FitOptions(T_world_cam=path))
    assert np.array_equal(told.poses, fit(filmed(points, path), FitOptions(T_world_cam=path))[0].poses)


def test_paper_mode_follows_no_turns(standing):
    points, _ = standing
    path, moves = turned_in_the_hand(3)
    told, untold = (fit(filmed(points, path, cam_K=None, **more), FitOptions(mode="paper", focal=900))[0] for more in ({"camera_turns": moves}, {}))
    assert told.cam_K[0, 0] == 900 and told.focal_source == "given"
    assert told.T_world_cam.shape == (4, 4) and np.array_equal(told.poses, untold.poses)


@pytest.mark.parametrize("lens", [{}, {"cam_K": None}], ids=["told", "by the background"])
def test_who_goes_all_round_a_camera_that_turns_after_them_is_upright(standing, lens):
    """Farther than a camera that stands still can see: the person is carried round it, by 250 degrees."""
    points, joints = standing
    round_it = Rotation.from_euler("z", np.linspace(0, -250, FRAMES)[:, None], degrees=True).as_matrix()
    ahead = np.array([0, 5.0, 0])
    people, truth = ((np.einsum("fab,kb->fka", round_it, p + ahead)) for p in (points, joints))
    path = np.stack([looking(np.array([0, 0, 1.6]), turn @ ahead + (0, 0, 0.9), 0.05) for turn in round_it])
    turns = np.einsum("ab,fbc->fac", path[0, :3, :3].T, path[:, :3, :3])
    inside = np.linalg.inv(path)
    seen = np.einsum("fab,fkb->fka", inside[:, :3, :3], people) + inside[:, None, :3, 3]
    pixels = seen[..., :2] / seen[..., 2:] * 1000 + K[:2, 2]
    told = {"camera_turns": moves_of(turns, np.ones(FRAMES), 1000.0), "camera_travels": False, "camera_focal": 1000.0, "fps": 30.0, "cam_K": K} | lens
    motion, _ = fit(Keypoints(pixels[None], np.full((1, *pixels.shape[:2]), 0.9), "coco17", SIZE, **told))
    world = in_world(motion)
    assert motion.T_world_cam.shape == (FRAMES, 4, 4) and np.ptp(motion.T_world_cam[:, :3, 3], axis=0).max() < 1e-6
    assert motion.T_world_cam[:, 2, :3] == pytest.approx(path[:, 2, :3], abs=0.08)  # up, as the body tells it: its own lean is 4 degrees
    assert motion.T_world_cam[0, 2, 3] == pytest.approx(1.6, abs=0.2) and motion.world_confidence < 1
    assert np.abs(world[0, 0, :2]).max() < 0.05 and abs(motion.T_world_cam[0, 0, 2]) < 1e-6 < motion.T_world_cam[0, 1, 2]
    moved = np.linalg.norm(world - (truth - truth[0, 0] * (1, 1, 0)), axis=-1).mean()
    assert moved < 0.4 and np.median(motion.reprojection_px) < 6 and (motion.contacts[5:-5] > 0.5).mean() < 0.6  # it glides


@pytest.mark.parametrize("degrees", [0, 3])
def test_a_camera_that_zooms_shows_nobody_come_nearer(standing, degrees):
    points, _ = standing
    path, moves = turned_in_the_hand(degrees)
    zoom = np.geomspace(1.2, 2.0, FRAMES)  # against the first picture of all; the range begins later
    kept = filmed(points, path, camera_turns=moves, camera_travels=False)
    larger = K[:2, 2] + (kept.keypoints - K[:2, 2]) * (zoom / zoom[0])[:, None, None]
    first = np.column_stack((moves[:, :2] / 1.2 * [1, 1], moves[:, 2], 1 / zoom))  # in px of the first picture, before it zoomed
    seen = dataclasses.replace(kept, keypoints=np.where(kept.confidence[..., None] > 0, larger, 0), camera_turns=first)
    zoomed, usual = fit(seen)[0], fit(dataclasses.replace(kept, camera_turns=moves if degrees else None))[0]
    assert zoomed.cam_K[:, 0, 0] == pytest.approx(1000 * zoom / zoom[0], rel=0.01) and zoomed.cam_K.shape == (FRAMES, 3, 3)
    assert np.abs(in_world(zoomed) - in_world(usual)).max() < 0.03
    told = np.einsum("fab,fkb->fka", zoomed.cam_K, zoomed.keypoints_3d)
    error = np.linalg.norm(told[..., :2] / told[..., 2:] - zoomed.keypoints, axis=-1)[zoomed.confidence > 0]
    assert np.nanmean(error) == pytest.approx(np.nanmean(zoomed.reprojection_px), rel=0.05)
    assert np.abs(zoomed.keypoints - seen.keypoints[0]).max() < 1.0
    lenses = np.tile(K, (FRAMES, 1, 1))
    lenses[:, [0, 1], [0, 1]] *= (zoom / zoom[0])[:, None]
    assert np.abs(in_world(fit(dataclasses.replace(seen, cam_K=lenses))[0]) - in_world(usual)).max() < 0.05  # a zoom that is told
    for other in ({"camera_travels": True}, {"camera_travels": None}):  # grows as before one that comes nearer
        assert fit(dataclasses.replace(seen, **other))[0].cam_K.ndim == 2
    assert fit(seen, FitOptions(mode="paper"))[0].cam_K.ndim == 2
    far = np.column_stack((np.linspace(0, 1000, FRAMES), first[:, 1:3], np.linspace(1, 1.3, FRAMES)))  # as before one that turns by 57 degrees
    assert fit(dataclasses.replace(kept, camera_turns=far))[0].cam_K.ndim == 2
    assert fit(dataclasses.replace(seen, cam_K=None))[0].focal_source == "estimated"
    assert fit(seen, FitOptions(T_world_cam=np.eye(4)))[0].cam_K.ndim == 2  # a known camera goes before
