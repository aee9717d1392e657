# SPDX-License-Identifier: GPL-3.0-or-later
"""What a detection is asked for and what is told of it on the way, with a detector in the real one's place."""

import sys
import types

import pytest

np = pytest.importorskip("numpy")

from noted_fits import Recorder, run, tracks  # noqa: E402

from bridge import handlers  # noqa: E402
from bridge.errors import LgdError  # noqa: E402


@pytest.fixture
def detector(monkeypatch):
    """A stand-in that sees two pictures; `asked` has what it was asked for, `found` is what it finds."""
    made = types.SimpleNamespace(asked=[], found=tracks(2), cuts=[])

    def detect(path, on_start, on_frame, **asked):
        made.asked.append({"path": path, **asked})
        footage = types.SimpleNamespace(width=640, height=480, notes=["Its first note."], cuts=made.cuts)
        on_start(footage)
        for n in range(2):
            on_frame(7 + n, n + 1, 0 if n else 9, made.found.keypoints[:, n], made.found.confidence[:, n])
        footage.notes.append("A note of its end.")
        return made.found

    monkeypatch.setitem(sys.modules, "bridge.keypoints.detect", types.SimpleNamespace(detect=detect))
    return made


def detect(tmp_path, **request):
    task = Recorder()
    return handlers.detect({"source": {"path": "walk.mp4"}, "out": str(tmp_path), **request}, task), task


def test_a_detection_is_told_while_it_runs(detector, tmp_path):
    result, task = detect(tmp_path)
    assert [message["frame"] for message in task.sent] == [7, 8]
    assert all((m["type"], m["layout"], m["image_size"]) == ("keypoints", "coco17", [640, 480]) for m in task.sent)
    points = np.array(task.sent[1]["people"])
    assert points.shape == (2, 17, 3) and np.allclose(points[..., :2], detector.found.keypoints[:, 1], atol=0.006)
    assert task.progressed == [("detect", 0, 0), ("detect", 1, 9), ("detect", 2, 2)]  # also where their number is not known
    assert task.warnings == ["Its first note.", "A note of its end."], "each once"
    assert (result["frames"], result["layout"], result["image_size"], len(result["people"])) == (6, "coco17", [640, 480], 2)


def test_what_a_request_tells_of_the_detection_reaches_it(detector, tmp_path):
    source = {"path": "walk.mp4", "frames": [3, 9], "fps": 24.0, "counted": 25.0, "boxes": [[1, 2, 30, 40, 3, 5]]}
    detect(tmp_path, source=source, fast=True, look_for=2, device="cpu")
    (asked,) = detector.asked
    wanted = {
        "path": "walk.mp4", "frames": (3, 9), "fps": 24.0, "counted": 25.0, "boxes": [(1, 2, 30, 40, 3, 5)], "fast": True,
        "people": 2, "device": "cpu", "detector": None,
    }  # fmt: skip
    assert {name: asked[name] for name in wanted} == wanted
    with pytest.raises(LgdError, match="pose.onnx does not exist"):
        detect(tmp_path, detector=str(tmp_path / "pose.onnx"))
    (tmp_path / "pose.onnx").write_bytes(b"onnx")
    detect(tmp_path, detector=str(tmp_path / "pose.onnx"))
    assert detector.asked[-1]["detector"] == str(tmp_path / "pose.onnx") and detector.asked[-1]["people"] == 1 and detector.asked[-1]["frames"] is None


def test_cuts_and_people_who_are_not_found_are_told(detector, tmp_path):
    detector.cuts = [30]
    task = Recorder()
    task.warning = lambda text, **more: task.warnings.append((text, more))
    handlers.detect({"source": {"path": "walk.mp4"}, "out": str(tmp_path), "look_for": 3}, task)
    assert task.warnings[2][1] == {"cuts": [30]} and "30 of the file" in task.warnings[2][0]
    assert task.warnings[3][0].startswith("3 people were looked for, and 2 found")
    detector.found.confidence[0, 3:], detector.found.confidence[1, :3] = 0, 0  # one person in two tracks
    detector.cuts, task = [], Recorder()
    handlers.detect({"source": {"path": "walk.mp4"}, "out": str(tmp_path), "look_for": 2}, task)
    assert task.warnings[2].startswith("2 people were looked for, and 1 found")


def test_nobody_is_no_result(detector, tmp_path):
    detector.found.confidence[:] = 0
    with pytest.raises(LgdError) as caught:
        detect(tmp_path)
    assert caught.value.code == "no_person" and not (tmp_path / "keypoints.npz").exists()


def test_what_a_request_tells_of_the_fit_reaches_it(calls, tmp_path):
    result, _ = run(tmp_path, tracks(), mode="paper", steps=2, seed=7, device="cpu", focal=700.0)
    _, options = calls[0]
    assert (options.mode, options.steps, options.seed, options.device, options.focal) == ("paper", 2, 7, "cpu", 700.0)
    assert all(0 <= spent < 10 for spent in result["seconds"].values())


def test_of_more_people_than_were_looked_for_the_first_are_solved_and_the_others_told(calls, detector, tmp_path):
    detector.found = tracks(4)
    task = Recorder()
    request = {"source": {"path": "walk.mp4"}, "out": str(tmp_path), "look_for": 2, "person": "all"}
    result = handlers.fit(request, task)
    assert len(result["motions"]) == 2 and result["keypoints"] == str(tmp_path / "keypoints.npz") and len(result["people"]) == 4
    assert any(text.startswith("2 more tracks were found and left out") for text in task.warnings)
