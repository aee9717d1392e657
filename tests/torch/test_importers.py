# SPDX-License-Identifier: GPL-3.0-or-later
"""Keypoint files of other programs, whole and faulty."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "worker"))
from noted_fits import Recorder  # noqa: E402

from bridge import handlers
from bridge.errors import LgdError
from bridge.keypoints.importers import _usual_size, read_keypoints

SHAPE = np.random.default_rng(0).uniform(-0.5, 0.5, (33, 2)) * [60, 170]


def person(t, n=0, count=17):
    points = SHAPE[:count] + [200 + 4 * t + 300 * n, 300]
    return np.concatenate([points, np.full((count, 1), 0.8)], 1)


def write(path, data):
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


def openpose(folder, count=25, frames=20, key="pose_keypoints_2d"):
    folder.mkdir()
    for t in range(frames):
        rows = [person(t, n, count).ravel().tolist() for n in ((0, 1) if t % 2 else (1, 0))]
        people = [{"person_id": [-1], key: r} for r in rows] if t != 7 else []
        write(folder / f"clip_{t:012d}_keypoints.json", {"version": 1.3, "people": people})
    return folder


def check(k, layout, people=2, frames=20):
    assert (k.layout, k.people, k.frames) == (layout, people, frames)
    assert k.confidence.max() == pytest.approx(0.8)
    for row in range(k.people):
        x = k.keypoints[row].mean(1)[:, 0][k.seen()[row]]
        assert np.ptp(x - 4 * np.arange(frames)[k.seen()[row]]) < 1


def test_openpose_folder_with_two_people(tmp_path):
    k = read_keypoints(openpose(tmp_path / "Öp en"))
    check(k, "body25")
    assert (~k.seen()).sum() == 2 and any("BODY_25" in n for n in k.notes) and not k.rate_known
    assert read_keypoints(openpose(tmp_path / "out_body_25b")).layout == "body25b"
    assert read_keypoints(tmp_path / "Öp en", layout="body25b", fps=50, image_size=(1920, 1080)).fps == 50


def test_what_a_file_says_otherwise_than_was_told_is_said(tmp_path):
    frames = [{"landmarks": person(t, count=33).tolist()} for t in range(5)]
    file = write(tmp_path / "m.json", {"fps": 29.97, "width": 640, "height": 480, "frames": frames})
    k = read_keypoints(file, fps=50, image_size=(1920, 1080))
    assert (k.fps, k.image_size) == (29.97, (640, 480))
    assert [note for note in k.notes if "not the 50 that" in note] and [note for note in k.notes if "not the 1920 x 1080 that" in note]
    assert not read_keypoints(file, fps=30, image_size=(640, 480)).notes


@pytest.mark.parametrize(("begin", "frames", "word"), [(30, 50, "counted from 0"), (1, 20, ""), (1001, 20, "footage's first")])
def test_frames_before_the_first_person_are_counted_where_they_are_left_out(tmp_path, begin, frames, word):
    data = [
        {"image_id": f"{begin + t}.jpg", "keypoints": person(t, 0).ravel().tolist(), "score": 2.0} for t in range(20)
    ]
    k = read_keypoints(write(tmp_path / "alpha.json", data), fps=25)
    assert k.frames == frames and k.seen().sum() == 20 and k.seen()[0, -20:].all()
    assert k.times()[-1] == pytest.approx((frames - 1) / 25)
    assert any(word in note for note in k.notes) if word else not any("nobody" in note for note in k.notes)


def test_a_picture_whose_size_is_not_told_has_a_usual_one(tmp_path):
    k = read_keypoints(openpose(tmp_path / "o"))
    assert k.image_size in ((640, 360), (640, 480)) and (k.keypoints.max((0, 1, 2)) <= k.image_size).all()
    k = read_keypoints(tmp_path / "o", image_size=(1920, 1080))
    assert k.image_size == (1920, 1080) and not any("size" in note for note in k.notes)
    assert read_keypoints(tmp_path / "o", image_size=(100, 1080)).image_size != (100, 1080)
    assert _usual_size(np.array([1006.0, 1316.0])) == (1080, 1920) and _usual_size(np.array([9000.0, 100.2])) == (9001, 102)


def test_zeros_in_most_frames_hide_no_pixels(tmp_path):
    rows = [{"image_id": f"{t}.jpg", "keypoints": (person(t) * (100 <= t < 105)).ravel().tolist()} for t in range(600)]
    k = read_keypoints(write(tmp_path / "a.json", rows))
    assert k.frames == 600 and np.flatnonzero(k.seen()[0]).tolist() == [100, 101, 102, 103, 104]
    with pytest.raises(LgdError, match="seen clearly") as caught:
        read_keypoints(write(tmp_path / "n.json", [{**row, "keypoints": [0.0] * 51} for row in rows]))
    assert caught.value.code == "no_person"


def test_points_at_0_0_are_not_seen_whatever_confidence_a_tool_leaves_beside_them(tmp_path):
    rows = [{"image_id": f"{t}.jpg", "keypoints": person(t).tolist()} for t in range(20)]
    for row in rows:
        row["keypoints"][13:] = [[0.0, 0.0, 0.45]] * 4
    k = read_keypoints(write(tmp_path / "a.json", [{**row, "keypoints": np.ravel(row["keypoints"]).tolist()} for row in rows]))
    assert (k.people, k.frames) == (1, 20) and not k.confidence[..., 13:].any() and (k.confidence[..., :13] > 0).all()


def test_confidence_in_per_cent_is_taken_so_and_told(tmp_path):
    folder = openpose(tmp_path / "op")
    right = read_keypoints(folder)
    for path in folder.glob("*.json"):
        frame = json.loads(path.read_text())
        for who in frame["people"]:
            who["pose_keypoints_2d"][2::3] = [100 * c for c in who["pose_keypoints_2d"][2::3]]
        write(path, frame)
    k = read_keypoints(folder)
    top = np.quantile(right.confidence[right.confidence > 0], 0.99)
    np.testing.assert_allclose(k.confidence, np.clip(right.confidence / top, 0, 1), atol=1e-3)
    assert any("confidence goes up to" in note for note in k.notes) and not any("confidence" in note for note in right.notes)


def test_coco(tmp_path):
    data = {
        "images": [{"id": 100 + t, "width": 1280, "height": 720, "file_name": f"{t}.jpg"} for t in range(20)],
        "annotations": [
            {"image_id": 100 + t, "keypoints": person(t, n).ravel().tolist(), "track_id": 5 + n}
            for t in range(20)
            for n in (1, 0)
        ],
    }
    k = read_keypoints(write(tmp_path / "coco.json", data))
    check(k, "coco17")
    assert k.image_size == (1280, 720) and list(k.person_ids) == [5, 6]
    for note in data["annotations"]:  # as COCO's own tell it: missing, hidden, seen
        note["keypoints"][2::3] = [2] * 15 + [1, 0]
    k = read_keypoints(write(tmp_path / "coco.json", data))
    assert np.allclose(k.confidence, [1] * 15 + [0.5, 0])
    data["images"] = [{**image, "frame_id": 19 - n} for n, image in enumerate(data["images"])]  # of a video that was labelled backwards
    assert np.allclose(read_keypoints(write(tmp_path / "coco.json", data)).keypoints, k.keypoints[:, ::-1])


@pytest.mark.parametrize("called", ["walk_{}.jpg", "walk_{}_png.rf.0a1b2c3d.jpg"])
def test_shuffled_images_of_coco_go_by_their_names(tmp_path, called):
    order = np.random.default_rng(0).permutation(20).tolist()
    images = [{"id": n, "file_name": called.format(t)} for n, t in enumerate(order)]
    notes = [{"image_id": n, "keypoints": person(t).ravel().tolist()} for n, t in enumerate(order)]
    check(read_keypoints(write(tmp_path / "c.json", {"images": images, "annotations": notes})), "coco17", people=1)


def test_alphapose(tmp_path):
    data = [
        {"image_id": f"frame_{t}.jpg", "keypoints": person(t, n, 26).ravel().tolist(), "score": 3.0, "idx": n}
        for t in range(20)
        for n in (0, 1)
    ]
    check(read_keypoints(write(tmp_path / "alphapose-results.json", data)), "halpe26")


def test_what_is_the_same_in_all_names_is_no_frames_number(tmp_path):
    rows = [{"image_id": f"{t}_cam2.jpg", "keypoints": person(t).ravel().tolist()} for t in range(20)]
    check(read_keypoints(write(tmp_path / "a.json", rows)), "coco17", people=1)
    for t in range(20):
        people = [{"person_id": [-1], "pose_keypoints_2d": person(t, 0, 25).ravel().tolist()}]
        write(tmp_path / f"{t}_cam2_keypoints.json", {"people": people})
    (tmp_path / "a.json").unlink()
    check(read_keypoints(tmp_path), "body25", people=1)


def test_mmpose(tmp_path):
    def one(t, n):
        p = person(t, n)
        return {"keypoints": p[:, :2].tolist(), "keypoint_scores": p[:, 2].tolist()}

    info = [{"frame_id": t + 1, "instances": [one(t, 0), one(t, 1)]} for t in range(20)]
    for data in ({"meta_info": {}, "instance_info": info}, info):
        check(read_keypoints(write(tmp_path / "results.json", data)), "coco17")


@pytest.mark.parametrize("as_it_is", [lambda marks: {"landmark": marks}, lambda marks: {"pose_landmarks": {"landmark": marks}}, lambda marks: {"poseLandmarks": marks}])
def test_mediapipes_own_messages(tmp_path, as_it_is):
    frames = [[{"x": x / 1280, "y": y / 720, "z": 0.0, "visibility": c} for x, y, c in person(t, 0, 33)] for t in range(20)]
    data = {"width": 1280, "height": 720, "fps": 25, "frames": [as_it_is(frame) for frame in frames]}
    check(read_keypoints(write(tmp_path / "m.json", data)), "blazepose33", people=1)


def test_mmposes_file_of_one_picture(tmp_path):
    rows = [{"keypoints": person(0, n)[:, :2].tolist(), "keypoint_scores": [0.8] * 17} for n in (0, 1)]
    check(read_keypoints(write(tmp_path / "picture.json", rows)), "coco17", frames=1)


def test_mediapipe(tmp_path):
    rows = [
        [{"x": x / 640, "y": y / 480, "z": 0.1, "visibility": c} for x, y, c in person(t, 0, 33)]
        for t in range(20)
    ]
    rows[4] = None
    data = {"image_size": [640, 480], "fps": 25, "frames": [{"landmarks": r} for r in rows]}
    k = read_keypoints(write(tmp_path / "mp.json", data))
    check(k, "blazepose33", people=1)
    assert k.fps == 25 and k.image_size == (640, 480) and not k.seen()[0, 4]
    with pytest.raises(LgdError, match="holds no pixels .* and no size of the picture"):
        read_keypoints(write(tmp_path / "bare.json", rows))
    pixels = [[[x, y, -30.0] for x, y, _ in person(t, 0, 33)] for t in range(6)]
    k = read_keypoints(write(tmp_path / "px.json", pixels))
    assert k.frames == 6 and (k.confidence == 1).all() and any("size" in n for n in k.notes)
    flat = [[[x, y] for x, y, _ in person(t)] for t in range(6)]  # without a third number
    k = read_keypoints(write(tmp_path / "flat.json", flat))
    assert k.layout == "coco17" and (k.confidence == 1).all() and np.allclose(k.keypoints[0, 5], person(5)[:, :2], atol=1e-3)


@pytest.mark.parametrize("count", [17, 33])
def test_coordinates_in_space_are_no_part_of_the_picture(tmp_path, count):
    """Metres about the hips, as MediaPipe's world landmarks and MMPose's points in 3D are: the footage's size does not make them pixels."""
    rows = [[{"x": x, "y": y, "z": 0.1, "visibility": 0.9} for x, y in SHAPE[:count] / 200 + 0.01 * t] for t in range(20)]
    with pytest.raises(LgdError, match="in space"):
        read_keypoints(write(tmp_path / "world.json", rows), image_size=(1280, 720))


def test_people_are_followed_by_the_footages_rate(tmp_path):
    """Of a file that tells none: at 5 frames a second who is seen in 10 is there for two seconds, not for a third of one."""
    for t in range(40):
        rows = [person(t, 0, 25)] + ([person(t, 1, 25)] if 15 <= t < 25 else [])
        write(tmp_path / f"clip_{t:012d}_keypoints.json", {"people": [{"pose_keypoints_2d": r.ravel().tolist()} for r in rows]})
    out = tmp_path / "out"
    out.mkdir()
    request = {"keypoints": str(tmp_path), "out": str(out)}
    for fps, people in ((5.0, 2), (None, 1)):
        found = handlers.read_keypoints({**request, "fps": fps}, Recorder())
        assert len(found["people"]) == people and found["fps"] == (fps or 30)


def test_one_file_of_a_folder_tells_of_the_others(tmp_path):
    k = read_keypoints(openpose(tmp_path / "o") / "clip_000000000003_keypoints.json")
    assert k.frames == 1 and [n for n in k.notes if "the 19 files numbered like it" in n]


def test_shared_squats(lgd_data):
    k = read_keypoints(lgd_data / "footage" / "squats_blazepose_2d.json", image_size=(720, 1280), fps=5)
    assert (k.people, k.frames, k.layout) == (1, 65, "blazepose33") and k.seen().all()


@pytest.mark.parametrize(
    "text, words",
    [
        ("{", "cannot be read as JSON"),
        ("[]", "not a kind"),
        ("{}", "not a kind"),
        ('{"people": []}', "holds no people"),
        ('{"people": [{"face": 1}]}', "pose_keypoints_2d"),
        ('{"people": [{"pose_keypoints_2d": ["a", 1, 2]}]}', "numbers"),
        ('{"people": [{"pose_keypoints_2d": [1, 2, 3, 4, 5, 6]}]}', "2 points"),
        ('{"annotations": [{"keypoints": [1, 2, 3]}]}', "image_id"),
        ('{"annotations": 5}', "not built"),
        ("[[1, 2], [3]]", "p"),
        (json.dumps([[np.ones((17, 3)).tolist(), np.ones((33, 3)).tolist()]]), "people of 17 and 33 points"),
        (json.dumps([np.full((17, 3), 1e30).tolist()]), "no valid coordinates"),
        ("5", "not a kind"),
    ],
)
def test_faulty_json_is_a_sentence(tmp_path, text, words):
    path = tmp_path / "f.json"
    path.write_text(text)
    with pytest.raises(LgdError, match=words):
        read_keypoints(path)


def test_other_faults(tmp_path):
    for name in ("missing.json", "missing.npz"):
        with pytest.raises(LgdError, match="does not exist"):
            read_keypoints(tmp_path / name)
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(LgdError, match="not a kind"):
        read_keypoints(tmp_path / "notes.txt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(LgdError, match="no JSON files"):
        read_keypoints(tmp_path / "empty")
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(LgdError, match="JSON"):
        read_keypoints(tmp_path / "binary.json")
    with pytest.raises(LgdError, match="layout"):
        read_keypoints(openpose(tmp_path / "o"), layout="coco17")


ODD = [None, "x", "", -1, 1e308, float("nan"), float("inf"), [], {}, True, [[]], {"x": 1}, 10**30, -(10**12), 1e30]


@pytest.mark.parametrize("value", ODD, ids=repr)
def test_no_value_in_a_file_is_met_unprepared(tmp_path, value):
    """Each entry of each kind of file replaced: read without it, or refused with a sentence."""
    flat = person(0).ravel().tolist()
    marks = [{"x": 0.1 * i, "y": 0.5, "visibility": 0.9} for i in range(33)]
    kinds = {
        "coco": {"images": [{"id": 0, "width": 640, "height": 480}], "annotations": [{"image_id": 0, "keypoints": flat, "track_id": 0}]},
        "alphapose": [{"image_id": "0.jpg", "keypoints": flat, "idx": 1}],
        "mmpose": {"instance_info": [{"frame_id": 1, "instances": [{"keypoints": person(0)[:, :2].tolist(), "keypoint_scores": [0.9] * 17, "track_id": 0}]}]},
        "mediapipe": {"fps": 30, "width": 640, "height": 480, "frames": [{"landmarks": marks}]},
        "openpose": {"people": [{"person_id": [0], "pose_keypoints_2d": person(0, 0, 25).ravel().tolist()}]},
    }  # fmt: skip
    read = 0
    for kind, whole in kinds.items():
        for place in places(whole):
            folder = tmp_path / "openpose"
            folder.mkdir(exist_ok=True)
            write(folder / "0.json", replaced(whole, place, value))
            try:
                k = read_keypoints(folder if kind == "openpose" else folder / "0.json")
            except LgdError:
                continue
            read += 1
            assert np.isfinite(k.keypoints).all() and k.keypoints.max() < 1e6 and max(k.image_size) < 1e6 and k.frames <= 301
    assert read > 5


def places(node, above=()):
    """The path to every entry, of long lists the first two."""
    inside = node.items() if isinstance(node, dict) else list(enumerate(node))[:2] if isinstance(node, list) else ()
    for key, below in inside:
        yield (*above, key)
        yield from places(below, (*above, key))


def replaced(node, place, value):
    if not place:
        return value
    out = node.copy()
    out[place[0]] = replaced(node[place[0]], place[1:], value)
    return out


@pytest.mark.parametrize("scaled", [lambda points: (points + 0.5) / (1280, 720), lambda points: 2 * (points + 0.5) / (1280, 720) - 1], ids=["0 to 1", "-1 to 1"])
def test_openpose_scaled_to_the_picture(tmp_path, scaled):
    for t in range(20):
        points = person(t, count=25)
        points[:, :2] = scaled(points[:, :2])
        write(tmp_path / f"clip_{t:012d}_keypoints.json", {"people": [{"person_id": [-1], "pose_keypoints_2d": points.ravel().tolist()}]})
    k = read_keypoints(tmp_path, image_size=(1280, 720))
    assert np.allclose(k.keypoints[0], [person(t, count=25)[:, :2] for t in range(20)], atol=0.01)
