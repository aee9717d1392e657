# SPDX-License-Identifier: GPL-3.0-or-later
"""Several people by a detector that follows one: each is looked for in pictures without those who were found before."""

import numpy as np
import pytest

cv2 = pytest.importorskip("cv2", reason="opencv-python is not installed")

from bridge.errors import LgdError
from bridge.keypoints import detect as detection
from bridge.keypoints.detect import ANOTHER, detect
from bridge.keypoints.hidden import without

FRAMES, SIZE = 40, (640, 360)
TALL, WIDE = 120, 40
SHAPE = np.random.default_rng(0).uniform(0, 1, (33, 2)) * (WIDE, TALL)  # of everybody's points, from the upper left


class Finder(detection.BlazePose):
    """Follows the largest white figure of a picture."""

    sure = 0.8

    def __init__(self, fast):
        self.notes, self.fast = [], fast
        self.turn()

    def find(self, image, boxes):
        count, _, stats, _ = cv2.connectedComponentsWithStats((image.min(-1) > 200).astype(np.uint8))
        if count < 2 or stats[1:, 4].max() < 0.4 * TALL * WIDE:
            return detection.nobody(33)
        x, y, *_, area = stats[1 + stats[1:, 4].argmax()]
        return (SHAPE + (x, y))[None], np.full((1, 33), self.sure if area > 0.9 * TALL * WIDE else 0.5)

    def close(self):
        pass


@pytest.fixture
def film(tmp_path, monkeypatch):
    """Writes a video of white figures, of which each goes along its way (F, 2) px, and puts the finder in BlazePose's place."""
    monkeypatch.setattr(detection, "BlazePose", Finder)
    monkeypatch.setattr(detection, "_lit", lambda image: image)
    # What the finder sees of somebody is all of them.
    monkeypatch.setattr("bridge.keypoints.hidden._cover", lambda mask, points, confidence, layout: cv2.rectangle(mask, *_corners(points), 255, -1))

    def write(*ways):
        writer = cv2.VideoWriter(str(tmp_path / "v.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 25.0, SIZE)
        for places in zip(*ways, strict=True):
            picture = np.full((SIZE[1], SIZE[0], 3), 60, np.uint8)
            for x, y in np.array(places, int).tolist():
                cv2.rectangle(picture, (x, y), (x + WIDE, y + TALL), (255, 255, 255), -1)
            writer.write(picture)
        writer.release()
        return tmp_path / "v.avi"

    return write


def _corners(points):
    low, high = points.min(0) - 8, points.max(0) + 8
    return tuple(low.astype(int).tolist()), tuple(high.astype(int).tolist())


def way(a, b):
    return np.column_stack((np.linspace(a, b, FRAMES), np.full(FRAMES, 100)))


def test_each_is_found_and_stays_one_person(film):
    ways = way(40, 200), way(300, 380), way(560, 480)
    calls = []
    found = detect(film(*ways), people=3, on_frame=lambda *c: calls.append(c))
    assert found.people == 3 and found.seen().all()
    starts = sorted(found.keypoints[:, 0, :, 0].min(-1))
    assert starts == pytest.approx([SHAPE[:, 0].min() + w[0, 0] for w in ways], abs=3)
    assert np.ptp(found.keypoints[..., 0].min(-1), axis=1).max() < 170, "nobody jumps to another"
    assert [c[:3] for c in calls] == [(k % FRAMES, k + 1, 3 * FRAMES) for k in range(3 * FRAMES)]
    assert [len(c[3]) for c in calls[::FRAMES]] == [1, 2, 3]  # who is known is shown with who is looked for


def test_who_is_seen_beside_one_is_told_of_and_nobody_where_one_is_alone(film):
    for ways, told in (((way(40, 200), way(400, 480)), True), ((way(40, 200),), False)):
        opened = []
        found = detect(film(*ways), on_start=opened.append)
        assert found.people == 1 and (ANOTHER in opened[0].notes) is told
    opened = []
    detect(film(way(40, 200), way(400, 480)), people=2, on_start=opened.append)
    assert not opened[0].notes


def test_who_is_seen_beside_one_is_told_of_in_a_range_of_counts_with_fewer_pictures(film):
    """Of a header's frames, or a faster counting's, a third may be there."""
    opened, path = [], film(way(40, 200), way(400, 480))
    found = detect(path, frames=(0, 100), counted=62.5, on_start=opened.append)
    assert found.frames == FRAMES and opened[0].notes == [ANOTHER]


def test_what_is_hardly_believed_is_nobody_else(film, monkeypatch):
    """A ball, a basket, or what was left of who was painted over."""
    monkeypatch.setattr(Finder, "find", lambda self, image, boxes, see=Finder.find: _doubted(*see(self, image, boxes)))

    def _doubted(points, conf):
        return points, np.where(points[..., :1].min(1) > 300, 0.5, conf)

    opened = []
    found = detect(film(way(40, 200), way(400, 480)), people=2, on_start=opened.append)
    assert found.people == 1 and found.keypoints[..., 0].max() < 300
    detect(film(way(40, 200), way(400, 480)), on_start=opened.append)
    assert ANOTHER not in opened[1].notes


def test_what_shows_everybody_or_one_is_asked_for_no_more(film):
    path = film(way(40, 200))
    for ask in ({"boxes": [(0, 0, 300, 300)]}, {"detector": "model.onnx"}):
        with pytest.raises(LgdError, match="2 people were asked for"):
            detect(path, people=2, **ask)


def test_a_person_is_painted_over_and_what_is_round_them_stays(lgd_data):
    pytest.importorskip("mediapipe", reason="mediapipe is not installed")
    path = lgd_data / "footage" / "two_people.mp4"
    found = detect(path, frames=(0, 6), people=2)
    assert found.people == 2 and found.seen().all() and found.confidence.mean() > 0.6
    apart = found.boxes()[:, :, 0] + found.boxes()[:, :, 2] / 2
    assert np.abs(apart[0] - apart[1]).min() > 200  # two of them: the woman on the left and the man
    picture = cv2.VideoCapture(str(path)).read()[1]
    left = int(apart[:, 0].argmin())
    points, confidence = found.keypoints[left, 0], found.confidence[left, 0]
    shown = without(picture, [(points, confidence)], found.layout)
    changed = np.abs(shown.astype(int) - picture).max(-1) > 12
    inside = points[confidence > 0.3].round().astype(int)
    assert changed[inside[:, 1], inside[:, 0]].mean() > 0.7 and 0.02 < changed.mean() < 0.15
    assert not changed[:, 400:].any() and not changed[: int(points[:, 1].min()) - 80].any()
    assert without(picture, [(points, np.zeros(33))], found.layout) is picture
    close = points * 40 - points.mean(0) * 39  # who fills the picture and more
    assert without(picture, [(close, np.ones(33))], found.layout).shape == picture.shape
