# SPDX-License-Identifier: GPL-3.0-or-later
"""The default detector on real footage, boxes, callbacks, cancelling, and footage without a person."""

import sys

import numpy as np
import pytest

cv2 = pytest.importorskip("cv2", reason="opencv-python is not installed")

from bridge.errors import LgdError
from bridge.keypoints import detect as detection
from bridge.keypoints import video
from bridge.keypoints.detect import detect


def needs_mediapipe():
    pytest.importorskip("mediapipe", reason="mediapipe is not installed")


def images(folder, count=3, size=(160, 120)):
    folder.mkdir()
    for i in range(count):
        cv2.imwrite(str(folder / f"{i}.png"), np.full((size[1], size[0], 3), 40 * i, np.uint8))
    return folder


def test_squats(lgd_data, capfd):
    needs_mediapipe()
    calls, starts = [], []
    k = detect(
        lgd_data / "footage" / "squats.mp4",
        frames=(10, 16),
        on_start=starts.append,
        on_frame=lambda *c: calls.append(c),
    )
    assert (k.people, k.frames, k.layout, k.image_size) == (1, 6, "blazepose33", (720, 1280))
    assert np.allclose(k.times(), np.arange(10, 16) / 5) and k.seen().all() and k.confidence.mean() > 0.8
    assert [c[:3] for c in calls] == [(i, i + 1, 6) for i in range(6)] and calls[0][3].shape == (1, 33, 2)
    assert starts[0].width == 720
    nose, ankle = k.keypoints[0, :, 0], k.keypoints[0, :, 27]
    assert (nose[:, 1] < ankle[:, 1] - 300).all() and np.ptp(ankle, axis=0).max() < 40
    assert not [line for line in capfd.readouterr().err.splitlines() if "W0000" in line or "INFO:" in line]


def test_box_chooses_the_person(lgd_data):
    needs_mediapipe()
    path = lgd_data / "footage" / "two_people.mp4"
    whole = detect(path, frames=(0, 8))
    centre = whole.boxes()[0, :, 0] + whole.boxes()[0, :, 2] / 2
    assert (centre < 300).all()  # without a box it takes the person on the left
    # The box holds for frames 0 to 5 of the footage only; the man it shows is followed on.
    boxed = detect(path, frames=(0, 8), boxes=[(380, 370, 480, 800, 0, 5)])
    box = boxed.person(0).boxes()[0]
    assert boxed.people == 1 and boxed.seen().all()
    assert (box[:, 0] > 350).all() and np.ptp(box[:, 0]) < 80


def test_a_boxed_person_is_followed_out_of_the_box(lgd_data):
    needs_mediapipe()
    path = lgd_data / "footage" / "walk_side.mp4"
    # The woman who walks to the left; a man on the roof behind her would take the detector over.
    found = detect(path, frames=(60, 100), boxes=[(1280, 520, 280, 440, 60, 61)])
    box = found.person(0).boxes()[0]
    centre = box[:, :2] + box[:, 2:] / 2
    assert found.seen()[0].mean() > 0.95 and (centre[:, 1] > 600).all()
    assert 1340 < centre[0, 0] < 1450 and 980 < centre[-1, 0] < 1090


def test_a_boxed_person_is_followed_backwards_too(lgd_data, monkeypatch):
    needs_mediapipe()
    path = lgd_data / "footage" / "walk_side.mp4"
    monkeypatch.setattr(video, "HELD_BYTES", 3 * 1920 * 1080 * 7)  # read in several pieces
    calls = []
    # The same woman, her box drawn at the end of the range.
    found = detect(
        path, frames=(60, 100), boxes=[(880, 520, 280, 440, 99, 100)], on_frame=lambda *c: calls.append(c[:3])
    )
    box = found.person(0).boxes()[0]
    centre = box[:, :2] + box[:, 2:] / 2
    assert found.seen()[0].mean() > 0.95 and (centre[:, 1] > 600).all()
    assert 1340 < centre[0, 0] < 1450 and 980 < centre[-1, 0] < 1090
    assert calls == [(39 - k, k + 1, 40) for k in range(40)]


def test_who_stands_free_before_the_box_is_not_taken(lgd_data):
    needs_mediapipe()
    path = lgd_data / "footage" / "two_people.mp4"
    # Free search takes the man on the left (see above); the box shows the one on the right, on the last frame.
    found = detect(path, frames=(0, 8), boxes=[(380, 370, 480, 800, 7, 8)])
    box = found.person(0).boxes()[0]
    assert found.people == 1 and found.seen().all() and (box[:, 0] > 350).all() and np.ptp(box[:, 0]) < 80


def test_footage_is_read_backwards_whole(tmp_path, monkeypatch):
    folder = images(tmp_path / "f", 7)
    writer = cv2.VideoWriter(str(tmp_path / "v.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 25.0, (160, 120))
    for level in range(12):
        writer.write(np.full((120, 160, 3), 20 * level, np.uint8))
    writer.release()
    monkeypatch.setattr(video, "HELD_BYTES", 3 * 160 * 120 * 2)
    for path, brightness in ((folder, 40), (tmp_path / "v.mp4", 20)):
        footage = video.open_footage(path, (1, 7))
        forwards = list(footage)
        back = list(footage.backwards(5))
        assert [index for index, _ in back] == [4, 3, 2, 1, 0]
        for index, image in back:
            assert (image == forwards[index][1]).all()
            assert abs(float(image.mean()) - min(brightness * (index + 1), 255)) < 6


def test_cancel(tmp_path):
    needs_mediapipe()
    done = []
    with pytest.raises(LgdError) as caught:
        detect(
            images(tmp_path / "f", 9), on_frame=lambda *c: done.append(c), should_stop=lambda: len(done) >= 2
        )
    assert caught.value.code == "cancelled" and len(done) == 2


def test_nobody(tmp_path):
    needs_mediapipe()
    calls = []
    with pytest.raises(LgdError, match="No person") as caught:
        detect(images(tmp_path / "f"), on_frame=lambda *c: calls.append(c))
    assert caught.value.code == "no_person" and calls[0][3].shape == (0, 33, 2)


@pytest.mark.parametrize(
    "box", [(1, 2, 0, 5), (1, 2, 3), (float("nan"), 0, 9, 9), (0, 0, 9, 9, 5, 5), "abcd"]
)
def test_bad_boxes(tmp_path, box):
    needs_mediapipe()
    with pytest.raises(LgdError, match="box"):
        detect(images(tmp_path / "f"), boxes=[box])


@pytest.mark.parametrize("box", [(200, 10, 50, 50), (-90, 10, 92, 50)])
def test_a_box_outside_the_picture_is_a_sentence(tmp_path, box):
    needs_mediapipe()
    with pytest.raises(LgdError, match="shows nothing of the picture, which is 160 x 120"):
        detect(images(tmp_path / "f"), boxes=[(*box, 0, 2)])


@pytest.mark.parametrize(("frames", "held"), [(None, (100, 200)), ((1, 3), (0, 1)), ((1, 3), (3, 4))])
def test_a_box_on_no_frame_that_is_read_is_refused(tmp_path, frames, held):
    """Nor is one before the range its first frame's: the person has moved since."""
    needs_mediapipe()
    with pytest.raises(LgdError, match=f"No box holds in a frame that is read, {frames[0] if frames else 0} to") as caught:
        detect(images(tmp_path / "f"), frames=frames, boxes=[(10, 10, 50, 50, *held)])
    assert caught.value.code == "bad_input"


def test_a_box_that_shows_nobody_takes_nobody_else(lgd_data):
    needs_mediapipe()
    path = lgd_data / "footage" / "walk_side.mp4"
    with pytest.raises(LgdError, match="Nobody was seen in the box") as caught:
        detect(path, frames=(55, 70), boxes=[(20, 520, 300, 430, 60, 61)])
    assert caught.value.code == "no_person"


def test_missing_mediapipe_is_a_sentence(tmp_path, monkeypatch):
    for name in [m for m in sys.modules if m.split(".")[0] == "mediapipe"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "mediapipe", None)
    with pytest.raises(LgdError, match="mediapipe 0.10.21") as caught:
        detect(images(tmp_path / "f"))
    assert caught.value.code == "setup_incomplete" and "ONNX" in caught.value.hint


@pytest.mark.parametrize(("surer", "sure"), [("again", 0.9), ("again", 0.3), ("before", 0.1)])
def test_a_beginning_that_does_not_hang_together_is_looked_at_from_behind(tmp_path, monkeypatch, surer, sure):
    """BlazePose may need some frames to find a person whole; followed back from where it has, it finds them at once."""
    writer = cv2.VideoWriter(str(tmp_path / "v.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 25.0, (160, 120))
    for k in range(30):
        writer.write(np.full((120, 160, 3), 8 * k, np.uint8))
    writer.release()
    body = np.random.default_rng(0).uniform(20, 100, (1, 33, 2))
    looked = []

    class Finder(detection.BlazePose):
        def __init__(self, fast):
            self.notes = []
            self.turn()

        def find(self, image, boxes):
            frame = round(float(image.mean()) / 8)
            looked.append((frame, len(boxes)))
            if len(looked) > 30:  # on the way back
                return body, np.full((1, 33), sure)
            if frame < 3:
                return np.zeros((0, 33, 2)), np.zeros((0, 33))
            return (body * 0.3 if frame < 6 else body), np.full((1, 33), 0.7)

        def close(self):
            pass

    monkeypatch.setattr(detection, "BlazePose", Finder)
    monkeypatch.setattr(detection, "_lit", lambda image: image)
    found = detection.detect(tmp_path / "v.mp4")
    assert looked[30:43] == [(k, int(k == 12)) for k in range(12, -1, -1)]
    if surer == "again":
        assert found.people == 1 and np.abs(found.keypoints[0, :6] - body[0]).max() < 1e-3
        assert found.confidence[0, 0, 0] == pytest.approx(sure) and found.confidence[0, 8, 0] == pytest.approx(0.7)
    else:
        assert not found.confidence[:, 0].any()


@pytest.mark.parametrize("level", [255, 210, 60, 8, 0])
def test_dark_pictures_are_shown_to_a_detector_with_more_light(level):
    image = np.linspace(0, level, 200 * 300 * 3).reshape(200, 300, 3).round().astype(np.uint8)
    shown = detection._lit(image)
    if level >= 210:
        assert shown is image
    else:
        assert abs(int(shown.max()) - min(16 * level, 202)) <= 8
        assert (np.diff(shown.ravel().astype(int)) >= 0).all() and len(np.unique(shown)) == len(np.unique(image))
    assert image.max() == level  # what the background is read from stays


def test_somebody_in_the_dark_is_found(lgd_data, tmp_path, monkeypatch):
    needs_mediapipe()
    capture = cv2.VideoCapture(str(lgd_data / "footage" / "squats.mp4"))
    for k in range(6):
        cv2.imwrite(str(tmp_path / f"{k}.png"), (capture.read()[1] * 0.03).astype(np.uint8))
    assert (detect(tmp_path, fps=5).confidence[0].max(-1) > 0).all()
    monkeypatch.setattr(detection, "_MOST", 1.0)
    with pytest.raises(LgdError, match="No person"):
        detect(tmp_path, fps=5)
