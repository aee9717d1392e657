# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a body of fixed pose is put before the camera."""

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed")

from bridge import camera  # noqa: E402


def test_a_refined_place_is_the_least_squares_of_the_reprojection():
    """Moved by anything, a body whose pose is off its points projects farther off them; also where few points are seen."""
    random = np.random.default_rng(0)
    relative = random.normal(0, 0.4, (6, 20, 3))
    there = relative + [0.3, -0.2, 4.0]
    rays = there[..., :2] / there[..., 2:] + random.normal(0, 0.02, (6, 20, 2))
    confidence = random.uniform(0.3, 1, (6, 20)) * (np.arange(20) < np.array([20, 20, 20, 10, 5, 3])[:, None])

    def error(place):
        at = relative + place[:, None]
        return (confidence * ((at[..., :2] / at[..., 2:] - rays) ** 2).sum(-1)).sum(-1)

    place = camera.place_by_reprojection(relative, rays, confidence, refined=True)
    for step in 1e-3 * np.concatenate((np.eye(3), -np.eye(3))):
        assert (error(place) < error(place + step)).all()
    linear = camera.place_by_reprojection(relative, rays, confidence)
    assert (error(place) <= error(linear)).all() and (place[:3, 2] > linear[:3, 2] + 0.005).all()


@pytest.mark.parametrize("seen", (0, 1))
def test_fewer_than_two_points_place_nothing(seen):
    confidence = np.zeros((2, 5))
    confidence[:, :seen] = 1
    rays = np.zeros((2, 5, 2))
    for refined in (False, True):
        assert np.isnan(camera.place_by_reprojection(np.zeros((2, 5, 3)), rays, confidence, refined)).all()


def test_paper_mode_places_the_body_so():
    """motion.npz in paper mode: no other translation of the body projects nearer to the points (contracts)."""
    from bridge.keypoints.tracks import Keypoints
    from bridge.lgd.fitter import FitOptions, fit

    random = np.random.default_rng(1)
    person = np.array([
        [0, -0.6], [0.03, -0.63], [-0.03, -0.63], [0.07, -0.6], [-0.07, -0.6], [0.18, -0.4], [-0.18, -0.4], [0.28, -0.15], [-0.28, -0.15],
        [0.3, 0.1], [-0.3, 0.1], [0.1, 0.1], [-0.1, 0.1], [0.11, 0.5], [-0.11, 0.5], [0.12, 0.88], [-0.12, 0.88],
    ])  # fmt: skip
    points = 320 + 250 * person + random.normal(0, 5, (4, 17, 2))
    confidence = random.uniform(0.4, 1, (4, 17))
    keypoints = Keypoints(points[None], confidence[None], "coco17", (640, 640), fps=30)
    motion = fit(keypoints, FitOptions(mode="paper"))[0]
    K, confidence = motion.cam_K, motion.confidence

    def error(move):
        at = motion.keypoints_3d + move
        pixels = at[..., :2] / at[..., 2:] * K[0, 0] + K[:2, 2]
        return (confidence * ((pixels - motion.keypoints) ** 2).sum(-1)).sum(-1)

    for step in 2e-3 * np.concatenate((np.eye(3), -np.eye(3))):
        assert (error(np.zeros(3)) < error(step)).all()


@pytest.mark.parametrize("points", (2, 3))
def test_paper_mode_holds_who_is_hardly_seen(points):
    """Two or three points put a body metres away along their ray, and tell no pose."""
    from test_fitter import FOCAL, waving

    from bridge.lgd.fitter import FitOptions, fit

    keypoints, _ = waving(30)
    keypoints.keypoints += np.random.default_rng(0).normal(0, 2, keypoints.keypoints.shape)
    keypoints.confidence[:, 10:20, points:] = 0
    motion, trace = fit(keypoints, FitOptions(mode="paper", focal=FOCAL, trace=True))
    assert all(np.allclose(trace[name][-1], getattr(motion, name), atol=1e-4) for name in ("poses", "trans")), "the descent ended elsewhere than the take"
    assert np.linalg.norm(np.diff(motion.joints[:, 0], axis=0), axis=-1).max() < 0.2 and np.ptp(motion.trans[:, 2]) < 0.4
    assert np.array_equal(motion.poses[9:20], motion.poses[9:10].repeat(11, 0))
    assert not motion.joint_confidence[10:20].any() and motion.joint_confidence[9].all(), "what is held is not sure"
    assert not motion.contacts[10:20].any() and motion.contacts[:10].any(), "a foot that is held rests anyway"
