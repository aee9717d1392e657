# SPDX-License-Identifier: GPL-3.0-or-later
"""Where footage is cut, and what is not taken for a cut."""

import numpy as np
import pytest

cv2 = pytest.importorskip("cv2", reason="opencv-python is not installed")

from bridge.keypoints import detect as detection
from bridge.keypoints.cuts import Cuts
from bridge.keypoints.tracks import Keypoints  # noqa: E402

RNG = np.random.default_rng(7)


def scene(seed: int) -> np.ndarray:
    """A picture (240, 640, 3) of soft patches."""
    return cv2.resize(np.random.default_rng(seed).integers(0, 255, (6, 16, 3), dtype=np.uint8), (640, 240), interpolation=cv2.INTER_CUBIC)


def take(seed: int, count: int, speed: float = 2.0) -> list[np.ndarray]:
    """Pictures of a pan, with grain."""
    whole = scene(seed)
    out = []
    for k in range(count):
        at = int(abs(speed * k) % 400)
        grain = np.random.default_rng(k).normal(0, 4, (240, 240, 3))
        out.append(np.clip(whole[:, at : at + 240] + grain, 0, 255).astype(np.uint8))
    return out


def cuts_of(pictures: list[np.ndarray]) -> list[int]:
    cuts = Cuts()
    for picture in pictures:
        cuts.add(picture)
    return cuts.first()


def test_cuts_are_found():
    assert cuts_of(take(1, 30) + take(2, 25) + take(3, 20)) == [30, 55]
    assert cuts_of(take(1, 3) + take(2, 3)) == [3]
    assert cuts_of([]) == cuts_of(take(1, 1)) == cuts_of(take(1, 2)) == []


def test_a_cut_may_have_a_picture_between():
    one, other = take(1, 30), take(2, 30)
    blended = [((one[-1].astype(int) + other[0]) // 2).astype(np.uint8)]
    assert cuts_of(one + blended + other) == [31]
    assert cuts_of(one + [np.zeros_like(one[0])] + other) == [31]


def test_what_is_no_cut():
    assert cuts_of([np.zeros_like(still) for still in take(1, 1)] + take(1, 40)) == []  # a black picture first
    assert cuts_of(take(1, 40) + take(2, 2)) == []
    assert cuts_of([take(1, 1)[0], take(2, 1)[0]]) == []
    still = take(1, 40, speed=0)
    flash = still[:20] + [np.full_like(still[0], 255)] + still[20:]
    assert cuts_of(flash) == []
    assert cuts_of(take(1, 60, speed=30)) == []  # a camera that is swept about, and jumps back
    padded = [picture for picture in take(1, 30, speed=40) for _ in range(3)]
    assert cuts_of(padded) == []
    passing = [picture.copy() for picture in still]
    for k in range(15, 25):  # somebody passes close before the camera
        passing[k][:, max(60 * (k - 19), 0) : max(60 * (k - 15), 0)] = 20
    assert cuts_of(passing) == []


def test_the_take_whose_camera_is_the_footages_is_the_most_prominent_persons():
    confidence = np.zeros((2, 50, 17))
    confidence[0, :20], confidence[1, 20:45] = 0.8, 0.8
    tracks = Keypoints(RNG.uniform(60, 200, (1, 1, 17, 2)) + np.zeros((2, 50, 17, 2)), confidence, "coco17", (240, 240))
    assert detection._take(tracks, [20, 45]) == range(20, 45) and detection._take(tracks, []) == range(50)


def test_people_of_two_takes_are_two_and_the_cut_is_known(tmp_path, monkeypatch):
    writer = cv2.VideoWriter(str(tmp_path / "v.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 25.0, (240, 240))
    for picture in take(1, 30) + take(2, 25):
        writer.write(picture)
    writer.release()
    body = RNG.uniform(60, 200, (1, 33, 2))

    class Finder(detection.BlazePose):
        def __init__(self, fast):
            self.notes = []
            self.turn()

        def find(self, image, boxes):
            return body, np.full((1, 33), 0.8)

        def close(self):
            pass

    monkeypatch.setattr(detection, "BlazePose", Finder)
    opened = []
    found = detection.detect(tmp_path / "v.mp4", on_start=opened.append, frames=(5, 55))
    seen = found.confidence.max(-1) > 0
    assert seen.sum(-1).tolist() == [25, 25] and seen[0, :25].all() and seen[1, 25:].all()
    assert opened[0].cuts == [30] and not opened[0].notes
    opened.clear()
    assert detection.detect(tmp_path / "v.mp4", on_start=opened.append, frames=(30, 55)).people == 1 and opened[0].cuts == []
