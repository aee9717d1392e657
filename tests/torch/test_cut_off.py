# SPDX-License-Identifier: GPL-3.0-or-later
"""People of whom the picture's edge, or their own body, hides a part."""

import dataclasses

import numpy as np
import pytest
from test_fitter import FOCAL, waving

from bridge import remarks
from bridge.keypoints import detect as detection
from bridge.keypoints.formats import LAYOUTS
from bridge.lgd.fitter import FitOptions, fit

cv2 = pytest.importorskip("cv2")

NAMES = LAYOUTS["blazepose33"].names
ARM = [NAMES.index(f"left_{part}") for part in ("elbow", "wrist", "pinky", "index")]
LEGS = [k for k, name in enumerate(NAMES) if name.endswith(("knee", "ankle", "heel", "toe"))]


def test_blazepose_is_believed_of_arms_out_of_the_picture_and_not_of_legs(tmp_path, monkeypatch):
    writer = cv2.VideoWriter(str(tmp_path / "v.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 25.0, (160, 120))
    for k in range(5):
        writer.write(np.full((120, 160, 3), 40 * k, np.uint8))
    writer.release()
    points = np.random.default_rng(0).uniform(20, 100, (1, 33, 2))
    points[0, [*ARM, *LEGS], 1] += 130

    class Finder(detection.BlazePose):
        def __init__(self, fast):
            self.notes = []
            self.turn()

        def find(self, image, boxes):
            return points, np.full((1, 33), 0.6)

        def close(self):
            pass

    monkeypatch.setattr(detection, "BlazePose", Finder)
    monkeypatch.setattr(detection, "_lit", lambda image: image)
    found = detection.detect(tmp_path / "v.mp4")
    assert found.confidence[0][:, ARM] == pytest.approx(0.6) and not found.confidence[0][:, LEGS].any()
    assert np.allclose(found.keypoints[0][:, ARM], points[0, ARM], atol=1e-3)


def test_a_guessed_arm_is_nearer_to_where_it_is_than_one_that_nobody_tells_of():
    keypoints, joints = waving(40, layout="blazepose33")
    missed = []
    for sure in (0.0, 0.02, 0.9):
        confidence = keypoints.confidence.copy()
        confidence[..., ARM] = sure
        told = dataclasses.replace(keypoints, confidence=confidence)
        motion = fit(told, FitOptions(mode="video", focal=FOCAL, device="cpu"))[0]
        apart = [(j[:, [18, 20]] - j[:, :1]) for j in (np.asarray(motion.joints), joints.numpy())]
        missed.append(1000 * float(np.linalg.norm(apart[0] - apart[1], axis=-1).mean()))
    untold, guessed, seen = missed
    assert guessed < 0.6 * untold and seen <= guessed


def test_a_detector_of_heat_maps_guesses_nothing():
    """What a heat map has of a point that it does not see is noise."""
    keypoints, _ = waving(20)
    wrist = LAYOUTS["coco17"].names.index("left_wrist")
    fits = []
    for away in (0.0, 300.0):
        points, confidence = keypoints.keypoints.copy(), keypoints.confidence.copy()
        points[..., wrist, 0] += away
        confidence[..., wrist] = 0.02
        told = dataclasses.replace(keypoints, keypoints=points, confidence=confidence)
        fits.append(fit(told, FitOptions(mode="video", focal=FOCAL, device="cpu"))[0])
    assert np.allclose(fits[0].poses, fits[1].poses, atol=1e-5)


def test_limbs_that_are_hardly_ever_seen_are_told():
    keypoints, _ = waving(40, layout="blazepose33")
    motion = fit(keypoints, FitOptions(mode="video", focal=FOCAL, device="cpu"))[0]
    assert remarks.never_seen(motion) is None
    motion.confidence[1:, LEGS] = 0.01  # seen in one frame of forty
    assert remarks.never_seen(motion) == "The legs are hardly ever seen: what they do is a guess."
    motion.confidence[5:, LEGS] = 0.9
    motion.confidence[:, ARM] = 0.1
    assert remarks.never_seen(motion) == "The left arm is hardly ever seen: what it does is a guess."
    motion.confidence[:, LEGS] = 0.0
    assert remarks.never_seen(motion) == "The legs and the left arm are hardly ever seen: what they do is a guess."
    motion.confidence[:] = 0.0
    assert remarks.never_seen(motion) is None


def test_feet_that_are_never_seen_are_not_planted():
    """Somebody who squats before a camera that shows them to the waist keeps to where they are seen; of one leg that is seen the foot is planted."""
    keypoints = waving(layout="blazepose33")[0]
    confidence = keypoints.confidence.copy()
    confidence[..., LEGS] = 0
    options = FitOptions(focal=FOCAL, plant_feet=True)
    waist = fit(dataclasses.replace(keypoints, confidence=confidence), options)[0]
    assert (waist.contacts > 0.8).mean() > 0.5 and not waist.feet_planted
    confidence[..., [k for k in LEGS if NAMES[k].startswith("left")]] = 0.9
    half = dataclasses.replace(keypoints, confidence=confidence)
    one, plain = (fit(half, dataclasses.replace(options, plant_feet=planted))[0] for planted in (True, False))
    assert one.feet_planted
    wanders = [np.ptp(m.joints[:, [7, 8]], axis=0).max(-1) for m in (one, plain)]
    assert wanders[0][0] < 0.5 * wanders[1][0] and wanders[0][1] > 0.5 * wanders[1][1]
