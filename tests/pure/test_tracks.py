# SPDX-License-Identifier: GPL-3.0-or-later
"""Keypoints: validation in sentences, prominence, cutting, and the file."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest

from bridge.errors import LgdError
from bridge.keypoints.formats import LAYOUTS
from bridge.keypoints.tracks import DEFAULT_FPS, Keypoints, rate_beside_pauses
from bridge.motion import Motion

ROOT = Path(__file__).parents[2]


def make(people=2, frames=10, **kw):
    rng = np.random.default_rng(1)
    args = {
        "keypoints": rng.uniform(0, 100, (people, frames, 17, 2)),
        "confidence": rng.uniform(0.3, 1, (people, frames, 17)),
        "layout": "coco17",
        "image_size": (640, 480),
        "fps": 25.0,
    }
    return Keypoints(**{**args, **kw})


def test_round_trip(tmp_path):
    times = np.cumsum(np.linspace(0.03, 0.05, 10))
    k = make(
        frame_times=times, cam_K=np.diag([500.0, 500, 1]), person_ids=[4, 9], person_boxes=np.ones((2, 10, 4)),
        camera_turns=np.arange(1.0, 41).reshape(10, 4),
        camera_travels=True,
        camera_focal=812.5,
        lines=[[0, 1.5, 2, 300, 4], [9, 5, 6, 7, 480]],
    )
    path = k.save(tmp_path / "Größe mit Leerzeichen.npz")
    back = Keypoints.load(path)
    for name in ("keypoints", "confidence", "frame_times", "cam_K", "person_ids", "person_boxes", "camera_turns", "camera_travels", "camera_focal", "lines"):
        assert np.array_equal(getattr(back, name), getattr(k, name)), name
    assert (back.layout, back.image_size, back.fps) == ("coco17", (640, 480), 25.0)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_the_document_that_a_refused_file_is_told_of_names_every_array():
    with pytest.raises(LgdError) as caught:
        make(image_size=(0, 5))
    file = re.search(r"docs/\S+\.md", caught.value.hint)
    assert file, caught.value.hint
    text = (ROOT / file[0]).read_text("utf-8")
    keypoints, motion = text.split("## motion.npz")
    assert not [f.name for f in dataclasses.fields(Keypoints) if f.name != "notes" and f"`{f.name}`" not in keypoints]
    assert not [name for name in LAYOUTS if f"`{name}`" not in keypoints]
    assert not [f.name for f in dataclasses.fields(Motion) if f"`{f.name}`" not in motion]


def test_one_person_without_people_axis():
    k = make(keypoints=np.ones((5, 17, 2)), confidence=np.ones((5, 17)), person_boxes=np.ones((5, 4)))
    assert (k.people, k.frames) == (1, 5) and k.person_boxes.shape == (1, 5, 4)


def test_unseen_points_may_be_anything():
    kp, c = np.ones((1, 3, 17, 2)), np.ones((1, 3, 17))
    kp[0, 1, 4], c[0, 1, 4] = np.nan, 0
    c[0, 2, 5] = np.nan
    k = make(keypoints=kp, confidence=c)
    assert np.isfinite(k.keypoints).all() and k.confidence[0, 1, 4] == 0 and k.confidence[0, 2, 5] == 0


@pytest.mark.parametrize(
    "change, sentence",
    [
        ({"confidence": np.ones((2, 9, 17))}, "shape"),
        ({"keypoints": np.ones((2, 10, 18, 2)), "confidence": np.ones((2, 10, 18))}, "17 points"),
        ({"layout": "mystery"}, "mystery"),
        ({"keypoints": np.full((2, 10, 17, 2), np.nan)}, "no valid coordinates"),
        ({"keypoints": np.full((2, 10, 17, 2), 1e30)}, "no valid coordinates"),
        ({"image_size": (1e30, 480)}, "image size"),
        ({"confidence": np.full((2, 10, 17), 80.0)}, "between 0 and 1"),
        ({"image_size": (0, 5)}, "image size"),
        ({"fps": -1}, "frame rate"),
        ({"frame_times": np.zeros(10)}, "rising"),
        ({"frame_times": np.arange(9)}, "9 frame times"),
        ({"cam_K": np.eye(4)}, "cam_K"),
        ({"cam_K": np.array([[900.0, 30, 320], [0, 900, 240], [0, 0, 1]])}, "skew"),
        ({"cam_K": np.tile([[900.0, 0, 320], [30, 900, 240], [0, 0, 1]], (10, 1, 1))}, "skew"),
        ({"person_ids": [1]}, "person ids"),
        ({"person_boxes": np.ones((2, 4))}, "person boxes"),
        ({"camera_turns": np.ones((10, 3))}, "camera's turns"),
        ({"camera_turns": np.zeros((10, 4))}, "camera's turns"),
        ({"camera_focal": 0.0}, "focal length must be above 0"),
        ({"lines": np.ones((2, 4))}, "background's lines"),
        ({"lines": [[3, 1, 2, 3, np.nan]]}, "background's lines"),
        ({"lines": [[10, 1, 2, 3, 4]]}, "background's lines"),
        ({"lines": [[-1, 1, 2, 3, 4]]}, "background's lines"),
        (
            {"keypoints": np.ones((0, 10, 17, 2)), "confidence": np.ones((0, 10, 17))},
            "no frames or no people",
        ),
        ({"keypoints": "text"}, "numbers"),
    ],
)
def test_faults_are_sentences(change, sentence):
    with pytest.raises(LgdError, match=sentence) as caught:
        make(**change)
    assert caught.value.code == "bad_input" and caught.value.text.endswith(".")


def test_damaged_files(tmp_path):
    with pytest.raises(LgdError, match="does not exist"):
        Keypoints.load(tmp_path / "none.npz")
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(LgdError, match="cannot be read"):
        Keypoints.load(tmp_path / "text.npz")
    (tmp_path / "empty.npz").write_bytes(b"")
    with pytest.raises(LgdError, match="cannot be read"):
        Keypoints.load(tmp_path / "empty.npz")
    np.savez(tmp_path / "object.npz", keypoints=np.array([{"a": 1}], dtype=object))
    with pytest.raises(LgdError, match="plain arrays"):
        Keypoints.load(tmp_path / "object.npz")
    np.savez(tmp_path / "half.npz", keypoints=np.ones((3, 17, 2)))
    with pytest.raises(LgdError, match="no 'confidence'"):
        Keypoints.load(tmp_path / "half.npz")
    whole = make().save(tmp_path / "whole.npz").read_bytes()
    (tmp_path / "torn.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(LgdError, match="cannot be read"):
        Keypoints.load(tmp_path / "torn.npz")


def test_parts_of_the_picture_are_no_pixels(tmp_path):
    """What some tools write: x and y from 0 to 1. They were fitted, with an error of a fifth of a pixel."""
    whole = make()
    whole.keypoints = whole.keypoints / np.float32(max(whole.image_size))
    with pytest.raises(LgdError, match="no coordinate is above 2.*no pixels") as caught:
        Keypoints.load(whole.save(tmp_path / "parts.npz"))
    assert "Multiply x by the picture's width" in caught.value.hint


def test_save_into_missing_folder(tmp_path):
    with pytest.raises(LgdError, match="cannot be written"):
        make().save(tmp_path / "no" / "k.npz")


def test_a_point_at_exactly_0_0_is_not_seen_whatever_its_confidence():
    points = np.full((1, 3, 17, 2), 50.0)
    points[0, 1, 5:], points[0, 2, 5:, 0] = 0, 0  # the latter lie on the picture's edge
    assert (make(keypoints=points, confidence=np.full((1, 3, 17), 0.4)).confidence > 0).sum(-1).tolist() == [[17, 5, 17]]


def test_who_is_seen_is_who_is_fitted():
    """Four points tell a pose, however little is sure of the others; three do not, however sure they are."""
    confidence = np.zeros((1, 3, 33))
    confidence[0, 0, :4], confidence[0, 1, :3] = 0.1, 1
    k = make(keypoints=np.random.default_rng(0).uniform(9, 99, (1, 3, 33, 2)), confidence=confidence, layout="blazepose33")
    assert k.seen().tolist() == [[True, False, False]] and k.describe()[0]["seen"] == 1


def test_prominence():
    base = np.random.default_rng(0).uniform(0, 1, (20, 17, 2))
    kp = np.stack([base * 50, base * 300, base * 320])
    c = np.full((3, 20, 17), 0.9)
    c[2, 4:] = 0
    k = make(keypoints=kp, confidence=c, person_ids=[7, 8, 9])
    assert list(k.prominence()) == [1, 2, 0]
    assert k.person(0).person_ids[0] == 8 and k.person(0).people == 1
    assert [d["id"] for d in k.describe()] == [8, 9, 7]
    assert k.describe()[1]["first"] == 0 and k.describe()[1]["last"] == 3 and k.describe()[1]["seen"] == 4
    with pytest.raises(LgdError, match="Person 3"):
        k.person(3)


def test_cut_keeps_time_of_the_footage():
    k = make().cut(4, 8)
    assert k.frames == 4 and np.allclose(k.times(), np.arange(4, 8) / 25) and k.camera_turns is None
    turns = np.arange(1.0, 41).reshape(10, 4)
    assert np.array_equal(make(camera_turns=turns).cut(4, 8).camera_turns, turns[4:8])
    assert make(camera_turns=turns).cut(4, 5).camera_turns is None
    turns = np.column_stack((np.maximum(np.arange(10) - 5, 0) * 40.0, np.zeros((10, 2)), np.ones(10)))  # and none before it begins to
    assert make(camera_turns=turns).cut(0, 6).camera_turns is None and make(camera_turns=turns).cut(0, 7).camera_turns is not None
    assert make(fps=None).times()[1] == pytest.approx(1 / 30) and not make(fps=None).rate_known
    assert make(frame_times=np.arange(10) * 0.5).rate() == pytest.approx(2.0)
    for a, b in ((5, 5), (-1, 4), (3, 11)):
        with pytest.raises(LgdError, match="range") as caught:
            make().cut(a, b)
        assert "0:10" in caught.value.hint, "who ended too late had begun at 0 or later"


def test_a_part_has_the_lines_that_are_seen_in_it():
    """Of a camera that stands still that is all of them, in whichever frame they were found."""
    lines = np.array([[frame, 10.0, 20, 30, 40] for frame in (0, 4, 7, 8)])
    assert make(lines=lines).cut(4, 8).lines[:, 0].tolist() == [0, 0, 3, 3]
    turned = make(lines=lines, camera_turns=np.arange(1.0, 41).reshape(10, 4)).cut(4, 8)
    assert turned.lines.tolist() == [[0, 10, 20, 30, 40], [3, 10, 20, 30, 40]]


def test_the_rate_is_that_of_what_lies_between_pauses():
    times = np.concatenate((np.arange(20) / 25, 60 + np.arange(20) / 25))  # a motion started it, twice
    assert rate_beside_pauses(times) == pytest.approx(25) and rate_beside_pauses(np.arange(9) * 2.0) == pytest.approx(0.5)
    assert rate_beside_pauses(times[:1]) == DEFAULT_FPS


def test_a_skew_that_moves_no_point_by_a_pixel_is_no_fault():
    """As a calibration may write it."""
    make(cam_K=np.array([[900.0, 0.1, 320], [1e-9, 900, 240], [0, 0, 1]]))
