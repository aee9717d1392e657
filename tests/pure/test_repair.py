# SPDX-License-Identifier: GPL-3.0-or-later
"""Swap repair and outlier rejection, on a synthetic walker and on real detections where the shared data is present."""

import numpy as np
import pytest

from bridge.keypoints.formats import POINT_INDEX, POINT_MIRROR, to_internal
from bridge.keypoints.repair import _GROUP, ARMS, LEGS, TRUNK, body_scale, reject_outliers, repair_swaps


def walker(frames=90, yaw=0.0, turn=0.0, fps=30.0, noise=3.0, seed=0):
    """A walking stick figure seen by a level camera 4 m away that looks down 10 degrees: (F, 30, 2) px, (F, 30).

    yaw 0 faces the camera; turn is the yaw added over the clip, rad.
    """
    rng = np.random.default_rng(seed)
    t = np.arange(frames) / fps
    phase = 2 * np.pi * 0.9 * t
    p = np.zeros((frames, 30, 3))
    name = POINT_INDEX
    zero = np.zeros(frames)

    def put(which, x, y, z):
        p[:, name[which]] = np.stack(np.broadcast_arrays(x, y, z), -1)

    put("nose", zero, 1.62, 0.12)
    for side, s, shift in (("left", 1, 0.0), ("right", -1, np.pi)):
        swing = np.sin(phase + shift)
        put(f"{side}_eye", s * 0.03 + zero, 1.66, 0.1)
        put(f"{side}_ear", s * 0.08 + zero, 1.64, 0.0)
        put(f"{side}_shoulder", s * 0.18 + zero, 1.42, 0.0)
        put(f"{side}_elbow", s * 0.22 + zero, 1.14, -0.12 * swing)
        put(f"{side}_wrist", s * 0.22 + zero, 0.92, -0.3 * swing + 0.05)
        put(f"{side}_index", s * 0.22 + zero, 0.84, -0.36 * swing + 0.06)
        put(f"{side}_pinky", s * 0.24 + zero, 0.84, -0.34 * swing + 0.04)
        put(f"{side}_hip", s * 0.1 + zero, 0.92, 0.0)
        lift = np.maximum(np.cos(phase + shift), 0)
        put(f"{side}_knee", s * 0.1 + zero, 0.5 + 0.05 * lift, 0.2 * swing + 0.08 * lift)
        put(f"{side}_ankle", s * 0.1 + zero, 0.09 + 0.12 * lift, 0.38 * swing)
        put(f"{side}_heel", s * 0.1 + zero, 0.03 + 0.14 * lift, 0.38 * swing - 0.06)
        put(f"{side}_big_toe", s * 0.1 + zero, 0.02 + 0.1 * lift, 0.38 * swing + 0.18)
        put(f"{side}_small_toe", s * 0.15 + zero, 0.02 + 0.1 * lift, 0.38 * swing + 0.14)
    angle = yaw + turn * np.linspace(0, 1, frames)
    c, s = np.cos(angle)[:, None], np.sin(angle)[:, None]
    x, y, z = p[..., 0] * c + p[..., 2] * s, p[..., 1] - 0.9, -p[..., 0] * s + p[..., 2] * c
    pitch = np.radians(10)
    y, z = y * np.cos(pitch) - z * np.sin(pitch), y * np.sin(pitch) + z * np.cos(pitch)
    depth = 4.0 - z
    px = np.stack([640 + 1000 * x / depth, 360 - 1000 * y / depth], -1)
    conf = np.full((frames, 30), 0.9)
    conf[:, [name["neck"], name["mid_hip"], name["head_top"]]] = 0
    return px + rng.normal(0, noise, px.shape), conf


def swap(points, conf, a, b, groups):
    source = np.where((_GROUP & groups) > 0, POINT_MIRROR, np.arange(30))
    points, conf = points.copy(), conf.copy()
    points[a:b], conf[a:b] = points[a:b][:, source], conf[a:b][:, source]
    return points, conf


VIEWS = [0.0, 0.7, np.pi / 2, 2.2, np.pi, -np.pi / 2]


@pytest.mark.parametrize("yaw", VIEWS)
@pytest.mark.parametrize("fps", [30.0, 60.0])
def test_good_labels_are_left_alone(yaw, fps):
    points, conf = walker(yaw=yaw, fps=fps)
    fixed, sure, states = repair_swaps(points, conf)
    assert not states.any() and np.array_equal(fixed, points) and np.array_equal(sure, conf)


@pytest.mark.parametrize("yaw", [0.0, np.pi / 2, np.pi])
def test_turning_person_is_left_alone(yaw):
    points, conf = walker(yaw=yaw, turn=2 * np.pi, frames=120)
    assert not repair_swaps(points, conf)[2].any()


@pytest.mark.parametrize("yaw", VIEWS)
@pytest.mark.parametrize("groups", [TRUNK | ARMS | LEGS, ARMS, LEGS])
def test_ten_swapped_frames(yaw, groups):
    points, conf = walker(yaw=yaw)
    fixed, _, _ = repair_swaps(*swap(points, conf, 37, 47, groups))
    away = np.linalg.norm(fixed - points, axis=-1)[:, conf[0] > 0].max(1)
    assert (away > 0.08 * body_scale(points, conf)).sum() <= 2


def test_flicker_and_majority():
    points, conf = walker(yaw=0.2)
    conf = np.maximum(conf, 0.05)  # a detector to which no point is unseen
    broken, broken_conf = points, conf
    for a, b in ((10, 11), (20, 22), (30, 60), (61, 70), (72, 73)):
        broken, broken_conf = swap(broken, broken_conf, a, b, 7)
    fixed, _, states = repair_swaps(broken, broken_conf)
    assert np.allclose(fixed, points) and (states[30:60] == 7).all() and states[0] == 0


def test_feet_decide_when_most_frames_are_swapped():
    points, conf = walker(yaw=0.0)
    fixed, _, _ = repair_swaps(*swap(points, conf, 20, 90, 7))
    assert np.allclose(fixed, points)


def test_gap_with_nothing_seen():
    points, conf = walker(yaw=0.3)
    conf[40:46] = 0
    points[40:46] = 0
    fixed, sure, states = repair_swaps(*swap(points, conf, 46, 56, 7))
    seen = np.r_[0:40, 46:90]
    assert np.allclose(fixed[seen], points[seen]) and (sure[40:46] == 0).all()


def test_short_and_empty_clips():
    points, conf = walker(frames=2)
    assert np.array_equal(repair_swaps(points, conf)[0], points)
    empty = repair_swaps(np.zeros((6, 30, 2)), np.zeros((6, 30)))
    assert (empty[2] == 0).all() and np.isfinite(
        reject_outliers(np.zeros((6, 30, 2)), np.zeros((6, 30)))
    ).all()


def test_outliers_lose_confidence_and_motion_does_not():
    points, conf = walker(yaw=1.2, frames=120)
    rng = np.random.default_rng(3)
    hit = (rng.random(conf.shape) < 0.01) & (conf > 0)
    jumped = points + np.where(hit[..., None], 100.0, 0.0)
    sure = reject_outliers(jumped, conf)
    assert (sure[hit] < 0.5 * conf[hit]).mean() > 0.85
    good = (conf > 0) & ~hit
    assert (sure[good] < 0.5 * conf[good]).mean() < 0.003
    assert np.array_equal(reject_outliers(points, conf) > 0, conf > 0)


@pytest.mark.parametrize("fps", (24.0, 30.0, 60.0))
@pytest.mark.parametrize("seconds", (0.1, 0.17, 0.27))
def test_limbs_put_elsewhere_for_a_while_lose_confidence(fps, seconds):
    points, conf = walker(yaw=1.2, frames=120, fps=fps)
    times, length = np.arange(120) / fps, round(seconds * fps)
    leg = [POINT_INDEX[f"left_{part}"] for part in ("knee", "ankle", "heel", "big_toe")]
    moved = points.copy()
    moved[50 : 50 + length, leg] += [150.0, -60.0]
    sure = reject_outliers(moved, conf, times)
    assert (sure[50 : 50 + length, leg] <= 0.11 * conf[50 : 50 + length, leg]).all()
    others = np.ones(conf.shape, bool)
    others[40:80] = False
    assert np.array_equal(sure[others], reject_outliers(moved, conf)[others])
    assert np.array_equal(reject_outliers(points, conf, times), reject_outliers(points, conf))


def test_a_kick_is_no_excursion_nor_is_what_stays():
    """A foot that is out and back within 0.4 s, the fastest there are; and one that goes and does not come back."""
    points, conf = walker(yaw=1.2, frames=90)
    times, foot = np.arange(90) / 30, POINT_INDEX["left_ankle"]
    kick = points.copy()
    kick[40:53, foot] += np.array([260.0, -200.0]) * np.sin(np.pi * np.arange(13) / 12)[:, None] ** 2
    assert np.array_equal(reject_outliers(kick, conf, times), reject_outliers(kick, conf))
    gone = points.copy()
    gone[40:, foot] += [150.0, -60.0]
    assert np.array_equal(reject_outliers(gone, conf, times), reject_outliers(gone, conf))
    slow = points.copy()  # at 5 frames a second a hand is elsewhere in every frame
    slow[40:42, foot] += [150.0, -60.0]
    assert np.array_equal(reject_outliers(slow, conf, np.arange(90) / 5), reject_outliers(slow, conf))


def test_no_captured_motion_is_an_excursion(lgd_data):
    """Breakdance and all, seen from the front by a camera without noise; points are joints."""
    import torch

    from bridge.body.files import load_body
    from bridge.body.smpl import BodyModel
    from bridge.rotations import quaternion_to_matrix
    from bridge.train.data import VAL_HARD, VAL_PLAIN, load_mocap

    body = BodyModel(load_body())
    clips = load_mocap(body).of_subjects(VAL_PLAIN + VAL_HARD)
    for first, length in zip(clips.start.tolist(), clips.length.tolist(), strict=True):
        rows = slice(first, first + length)
        turned = quaternion_to_matrix(clips.quats[rows])
        joints = body.shaped(torch.zeros(10), "smpl").posed(turned, clips.trans[rows]).joints.numpy()
        points = joints[..., :2] * [500.0, -500.0]
        ones = np.ones(points.shape[:2])
        assert np.array_equal(reject_outliers(points, ones, np.arange(length) / 30), reject_outliers(points, ones))


@pytest.mark.parametrize("frames", range(1, 9))
def test_clips_of_a_few_frames_are_repaired_too(frames):
    points, conf = walker(yaw=1.2, frames=20)
    points, conf = points[:frames], conf[:frames]
    assert np.array_equal(repair_swaps(points, conf)[0], points)
    assert np.array_equal(reject_outliers(points, conf) > 0, conf > 0)


def test_real_swaps_of_camera_2(lgd_data):
    data = np.load(lgd_data / "multiview" / "beam_walk.npz")
    wanted = {"T": [5, 6], "A": [7, 8, 9, 10]}
    for camera in range(4):
        other, sure = to_internal(data["kp2d"][camera, ..., :2], data["kp2d"][camera, ..., 2], "body25b")
        points, conf = to_internal(
            data["kp2d_blaze"][camera, ..., :2], data["kp2d_blaze"][camera, ..., 2], "blazepose33"
        )
        fixed, _, states = repair_swaps(points, conf)
        assert (states > 0).sum() == (32 if camera == 1 else 0)
        for index in wanted.values():
            weight = sure[:, index] * (sure[:, index] > 0.4)
            as_is = (np.linalg.norm(fixed - other, axis=-1)[:, index] * weight).sum(1)
            mirrored = (np.linalg.norm(fixed[:, POINT_MIRROR] - other, axis=-1)[:, index] * weight).sum(1)
            assert (as_is <= mirrored).all()
        assert not repair_swaps(other, sure)[2].any()
