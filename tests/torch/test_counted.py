# SPDX-License-Identifier: GPL-3.0-or-later
"""Ranges and boxes of a variable-rate file in Blender's counting, as the worker reads them."""

import sys
from pathlib import Path

import numpy as np
import pytest

cv2 = pytest.importorskip("cv2", reason="opencv-python is not installed")
sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parents[1] / "worker")]
import variable_rate  # noqa: E402
from noted_fits import Recorder  # noqa: E402

from bridge.counting import STEADY, counts, shown  # noqa: E402
from bridge.errors import LgdError  # noqa: E402
from bridge.handlers import read_keypoints  # noqa: E402
from bridge.inputs import read_camera  # noqa: E402
from bridge.keypoints import detect as detection  # noqa: E402
from bridge.keypoints.tracks import Keypoints  # noqa: E402
from bridge.keypoints.video import open_footage, picture_times  # noqa: E402

SECONDS = [3 / 30 if k in (5, 9) else 0.3 / 30 if k == 14 else 1 / 30 for k in range(24)]
TIMES = np.concatenate([[0.0], np.cumsum(SECONDS)[:-1]])


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    folder = tmp_path_factory.mktemp("films")
    writer = cv2.VideoWriter(str(folder / "plain.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 30.0, (160, 120))
    for k in range(24):
        writer.write(np.full((120, 160, 3), 10 * k, np.uint8))
    writer.release()
    return variable_rate.retime(folder / "plain.mp4", folder / "variable.mp4", SECONDS)


def pictures(footage):
    """Which pictures a footage gives, by their brightness."""
    return [round(float(image.mean()) / 10) for _, image in footage]


def test_every_range_gives_the_pictures_that_are_shown(film):
    last = int(counts(TIMES, 30.0)[-1])
    on = [int(np.flatnonzero(TIMES <= k / 30 + 1e-4)[-1]) for k in range(last + 1)]  # shown on each count
    assert on[5:9] == [5, 5, 5, 6] and 14 in on
    for a in range(0, last, 3):
        for b in range(a + 1, last + 2, 5):
            footage = open_footage(film, (a, b), counted=30.0)
            assert footage.count == b - a  # what progress is told of; the pictures are not known yet
            got = pictures(footage)
            # Those between the first and the last that are shown, also the one that comes too fast to be.
            assert got == list(range(on[a], got[-1] + 1)) and got[-1] in (on[b - 1], on[b - 1] + 1)
            assert (got[0], got[-1] + 1) == shown(TIMES, 30.0, a, b)
            assert np.allclose(footage.frame_times, TIMES[got], atol=1e-4)
            assert footage.number(0) == a and footage.count == len(got)
            assert [round(float(i.mean()) / 10) for _, i in footage.backwards(len(got))] == got[::-1]


def test_one_picture_out_of_step_is_counted_as_it_is_read():
    """Who reads a file from its beginning knows the last pictures alone, and counts as those who know all."""
    times = np.round(np.arange(200) / 30, 3)
    times[60] += 0.009
    uneven = np.cumsum(np.random.default_rng(0).uniform(0.02, 0.05, 200))
    for stamps in (times, uneven - uneven[0]):
        begin = counts(stamps[:STEADY], 30.0).tolist()
        read = begin + [counts(stamps[i - STEADY + 1 : i + 1], 30.0)[-1] for i in range(STEADY, 200)]
        assert read == counts(stamps, 30.0).tolist()
    assert counts(times, 30.0)[[59, 150]].tolist() == [59, 150]


def test_a_damaged_file_is_told_of(tmp_path):
    writer = cv2.VideoWriter(str(tmp_path / "whole.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 25.0, (160, 120))
    noise = np.random.default_rng(0)
    for _ in range(40):
        writer.write(noise.integers(0, 255, (120, 160, 3), np.uint8))
    writer.release()
    data = (tmp_path / "whole.avi").read_bytes()
    (tmp_path / "half.avi").write_bytes(data[: len(data) // 2])
    for name, rate, told in (("whole", 25.0, 0), ("half", 25.0, 1), ("half", None, 1)):
        for frames in ((0, 40), (0, 10)):
            footage = open_footage(tmp_path / f"{name}.avi", frames, counted=rate)
            list(footage)
            assert len(footage.notes) == (told if frames == (0, 40) else 0), (name, rate, frames)


def test_a_box_on_a_held_picture_is_not_lost(film, monkeypatch):
    asked = []

    class Finder(detection.BlazePose):
        def __init__(self, fast):
            self.notes = []
            self.turn()

        def find(self, image, boxes):
            asked.append((round(float(image.mean()) / 10), len(boxes)))
            return np.full((1, 33, 2), 60.0) + np.arange(66).reshape(1, 33, 2) % 7, np.ones((1, 33))

        def close(self):
            pass

    monkeypatch.setattr(detection, "BlazePose", Finder)
    monkeypatch.setattr(detection, "_lit", lambda image: image)
    told = []
    # Count 6 shows picture 5, as counts 5 and 7 do.
    detection.detect(
        film, frames=(2, 14), counted=30.0, boxes=[(0, 0, 100, 100, 6, 7)], on_frame=lambda *c: told.append(c[0])
    )
    assert asked == [(6, 1), (7, 0), (8, 0), (9, 0), (6, 1), (5, 0), (4, 0), (3, 0), (2, 0)]
    assert told == [6, 7, 8, 9, 3, 2, 1, 0]  # counted from the range's begin


def test_keypoints_of_another_detector_have_the_times_of_their_pictures(film, tmp_path):
    """One for each picture, of a file whose pictures are not evenly apart: else they run ahead of what Blender shows."""
    points = np.tile(np.random.default_rng(0).uniform(20, 100, (17, 2)), (1, 24, 1, 1)) + np.arange(24.0)[:, None, None]
    last = int(counts(TIMES, 30.0)[-1])
    told = {"keypoints": str(tmp_path / "k.npz"), "out": str(tmp_path), "counted": 30.0, "footage": {"path": film}}
    for fps, frames, begin in ((None, [0, last + 1], 0), (30.0, [8, last + 1], 6), (None, [0, last + 2], 0)):
        Keypoints(points, np.ones((1, 24, 17)), "coco17", (160, 120), fps=fps).save(tmp_path / "k.npz")
        task = Recorder()
        result = read_keypoints({**told, "frames": frames}, task)
        found = Keypoints.load(result["keypoints"])
        assert np.allclose(found.frame_times, TIMES[begin:], atol=1e-4) and not task.warnings
        assert found.keypoints[0, 0, 0, 0] == pytest.approx(points[0, begin, 0, 0])
    told["footage"] = {"path": str(tmp_path / "gone.mp4")}
    Keypoints(points, np.ones((1, 24, 17)), "coco17", (160, 120)).save(tmp_path / "k.npz")
    assert read_keypoints({**told, "frames": [3, 9]}, Recorder())["frames"] == 6
    Keypoints(points, np.ones((1, 24, 17)), "coco17", (160, 120), fps=15.0).save(tmp_path / "k.npz")  # of every second picture
    assert read_keypoints({**told, "frames": [0, 20]}, Recorder())["frames"] == 10
    assert picture_times(film, 26)[24:] == pytest.approx(TIMES[-1] + np.array([1, 2]) / 30, abs=1e-4)


def test_a_moving_camera_has_an_entry_for_each_count(tmp_path):
    worlds = np.tile(np.eye(4), (12, 1, 1))
    worlds[:, 0, 3] = np.arange(12)
    np.savez(tmp_path / "camera.npz", T_world_cam=worlds)
    places = np.array([0, 1, 4, 11])
    given = read_camera(str(tmp_path / "camera.npz"))
    assert given.of(4, places).T_world_cam[:, 0, 3].tolist() == [0, 1, 4, 11] and given.cam_K is None
    with pytest.raises(LgdError):
        given.of(4)
