# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands that look at footage: what they ask the detector for, and what they say of it."""

import types

import pytest

np = pytest.importorskip("numpy")
cv2 = pytest.importorskip("cv2", reason="opencv-python is not installed")

from commands import bad, blank_video, keypoints  # noqa: E402

from bridge.errors import LgdError  # noqa: E402
from bridge.keypoints.tracks import Keypoints  # noqa: E402


def test_detect_refuses_what_it_would_not_use(bridge, tmp_path):
    keypoints(tmp_path / "k.npz")
    bad(bridge("detect", "k.npz"), "`fit`")
    (tmp_path / "shot.mp4").write_bytes(b"not looked at")
    for command in ("detect", "fit"):
        bad(bridge(command, "shot.mp4", "--fps", "25"), "folder of images")
    bad(bridge("fit", "shot.mp4", "--size", "640,480"), "--size")


def test_cut_footage_is_told_of_once(bridge, tmp_path, monkeypatch):
    from bridge.keypoints import detect as detection
    from bridge.keypoints.tracks import Keypoints

    def detect(path, on_start, **_):
        footage = types.SimpleNamespace(width=64, height=48, notes=[], cuts=[])
        on_start(footage)
        footage.cuts = [7, 19]
        points = np.random.default_rng(0).uniform(5, 40, (1, 24, 17, 2)).astype(np.float32)
        return Keypoints(points, np.ones(points.shape[:3], np.float32), "coco17", (64, 48), fps=25.0)

    monkeypatch.setattr(detection, "detect", detect)
    blank_video(tmp_path / "v.mp4", 3)
    code, _, err = bridge("detect", "v.mp4", "-o", "k.npz")
    (told,) = [line for line in err.splitlines() if "cut at" in line]
    assert code == 0 and "frames 7, 19 of the file" in told and "--frames A:B" in told and "range" not in told


def test_bad_options_of_detect(bridge, tmp_path):
    blank_video(tmp_path / "v.mp4", 3)
    bad(bridge("detect", "v.mp4", "--frames", "50:60"))
    bad(bridge("detect", "v.mp4", "--detector", "none.onnx"), "none.onnx")
    bad(bridge("detect", "v.mp4", "-o", "v.mp4"))
    bad(bridge("detect"), "--help")
    bad(bridge("dance"), "--help")


def test_fast_reaches_the_default_detector_and_is_refused_for_keypoints(bridge, tmp_path, monkeypatch):
    from bridge.keypoints import detect

    made = []

    class Finder:
        def __init__(self, fast):
            made.append(fast)
            raise LgdError("setup_incomplete", "No detector here.")

    monkeypatch.setattr(detect, "BlazePose", Finder)
    video = blank_video(tmp_path / "v.mp4")
    for command in ("detect", "fit"):
        for options in ((), ("--fast",)):
            assert bridge(command, video, "-o", "out.npz", *options)[0] == 4
    assert made == [False, True, False, True]
    bad(bridge("fit", keypoints(tmp_path / "k.npz"), "-o", "m.npz", "--fast"), "--fast", "for footage")
    bad(bridge("detect", video, "--fast", "--detector", "x.onnx"), "--fast", "--detector")


def test_as_many_people_as_asked_for_are_looked_for(bridge, tmp_path, monkeypatch):
    from bridge.keypoints import detect

    asked, there = [], np.ones((2, 5, 1))

    def run(path, people, **more):
        asked.append(people)
        points = np.zeros((len(there), 5, 17, 2)) + np.linspace(100, 300, len(there))[:, None, None, None] + np.random.default_rng(0).uniform(0, 80, (17, 2))
        return Keypoints(points, 0.9 * np.tile(there, 17), "coco17", (640, 480), fps=30.0)

    monkeypatch.setattr(detect, "detect", run)
    video = blank_video(tmp_path / "v.mp4")
    code, out, err = bridge("detect", video, "-o", "k.npz")
    assert code == 0 and "looked for" not in err
    code, out, err = bridge("detect", video, "-o", "k.npz", "--people", "3")
    assert code == 0 and "3 people were looked for, and 2 found. Give --box round one" in err
    code, out, err = bridge("fit", video, "-o", "m.npz", "--people", "2")
    assert code == 0 and (tmp_path / "m_0.npz").is_file() and (tmp_path / "m_1.npz").is_file() and asked == [1, 3, 2]
    code, out, err = bridge("fit", video, "-o", "one.npz", "--people", "2", "--person", "1")
    assert code == 0 and (tmp_path / "one.npz").is_file()
    there = np.repeat(np.eye(2)[[0, 1, 1]], (2, 3), axis=1)[..., None]  # one after the other, in pieces
    code, out, err = bridge("fit", video, "-o", "pieces.npz", "--people", "2")
    assert code == 0 and "1 more track was found and left out" in err and len(list(tmp_path.glob("pieces_*.npz"))) == 2 and "people were looked for" not in err
    there = there[:2]
    code, out, err = bridge("detect", video, "-o", "pieces.npz", "--people", "2")
    assert code == 0 and "2 people were looked for, and 1 found" in err
    bad(bridge("fit", keypoints(tmp_path / "k.npz"), "-o", "m.npz", "--people", "2"), "--people", "for footage")
    bad(bridge("detect", video, "--people", "2", "--detector", "x.onnx"), "--people", "--detector")
    bad(bridge("detect", video, "--people", "2", "--box", "0,0,9,9"), "--people", "--box")
    bad(bridge("detect", video, "--people", "0"), "whole number")


def test_no_one_in_the_footage(bridge, tmp_path):
    pytest.importorskip("mediapipe", reason="mediapipe is not installed")
    blank_video(tmp_path / "v.mp4", 3)
    code, out, err = bridge("detect", "v.mp4")
    assert code == 3 and out == "" and "No person" in err


def test_the_demo_shows_what_was_solved_of_a_range_beyond_the_end(tmp_path):
    from bridge.keypoints.video import open_footage
    from demo.preview import shown

    for number in range(4):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.zeros((8, 8, 3), np.uint8))
    assert shown(None, [0, 3]) is None and shown("1:9", [0, 2]) == (1, 4)
    assert len(list(open_footage(tmp_path, frames=shown("1:9", [0, 2])))) == 3
