# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests to core calls: people and their one world, ranges, and what becomes of exceptions."""

import dataclasses
import errno
import sys
import types
import warnings
from pathlib import Path

import pytest

np = pytest.importorskip("numpy")

from noted_fits import Recorder, run, tracks  # noqa: E402

import bridge.lgd  # noqa: E402
from bridge import commands, faults, handlers, protocol  # noqa: E402
from bridge.errors import LgdError  # noqa: E402
from bridge.faults import translate, translated  # noqa: E402
from bridge.keypoints.tracks import Keypoints  # noqa: E402
from bridge.motion import Motion  # noqa: E402
from bridge.server import Task  # noqa: E402


def test_one_person(calls, tmp_path):
    result, task = run(tmp_path, tracks())
    assert [Path(p).name for p in result["motions"]] == ["motion.npz"] and result["traces"] == []
    assert calls[0][1].mode == "video" and not task.warnings
    assert result["keypoints"] is None and result["people"][0]["seen"] == 6
    assert {"read", "load", "fit", "write"} <= set(result["seconds"])
    assert Motion.load(result["motions"][0]).frames == 6
    assert result["figures"][0]["reprojection_px"] == 2.0


def test_feet_are_planted_where_it_is_asked_for_and_that_none_rests_is_told(calls, tmp_path, monkeypatch):
    _, task = run(tmp_path, tracks())
    assert not calls[0][1].plant_feet and not task.warnings
    _, task = run(tmp_path, tracks(), plant_feet=True)
    assert calls[1][1].plant_feet and ["three frames, so that none is planted" in text for text in task.warnings] == [True]
    fitted = bridge.lgd.fitter.fit
    monkeypatch.setattr(bridge.lgd.fitter, "fit", lambda *rest: (dataclasses.replace(fitted(*rest)[0], feet_planted=True), None))
    result, task = run(tmp_path, tracks(), plant_feet=True)
    assert not task.warnings and Motion.load(result["motions"][0]).feet_planted is True


def test_frames_without_the_person_are_told(calls, tmp_path):
    keypoints = tracks()
    keypoints.confidence[:, 4:] = 0
    result, task = run(tmp_path, keypoints)
    assert ["seen in 4 of 6 frames" in text for text in task.warnings] == [True]


def test_the_people_of_a_file_are_told_as_those_detected_are(calls, tmp_path):
    keypoints = tracks(3)
    keypoints.save(tmp_path / "theirs.npz")
    (tmp_path / "job").mkdir()
    request = {"keypoints": str(tmp_path / "theirs.npz"), "frames": [2, 9], "short": True, "out": str(tmp_path / "job")}
    task = Recorder()
    result = handlers.JOBS["read_keypoints"](request, task)
    assert [(entry["person"], entry["id"], entry["seen"]) for entry in result["people"]] == [(0, 2, 4), (1, 1, 4), (2, 0, 4)]
    assert Keypoints.load(result["keypoints"]).frames == result["frames"] == 4 and not calls
    assert ["end 3 frames before" in text for text in task.warnings] == [True]
    protocol.check(protocol.message("read_keypoints", 1, **request))
    protocol.check_files("read_keypoints", result, request["out"])


def test_sentences_count_people_as_who_reads_them_does(calls, tmp_path):
    """The command line from 0, as its --person; the add-on from 1, as its list."""
    keypoints = tracks(2)
    keypoints.confidence[:, 4:] = 0
    for counts_from in (0, Task.counts_from):
        task = run(tmp_path, keypoints, counts_from, person=1)[1]
        for sentence in (f"Person {1 + counts_from} is seen in 4 of 6 frames", f"Person {1 + counts_from} is fitted; 1 other"):
            assert any(text.startswith(sentence) for text in task.warnings), (sentence, task.warnings)
        with pytest.raises(LgdError, match=f"no person {5 + counts_from}: there are 2 people, {counts_from} to {1 + counts_from}"):
            run(tmp_path, keypoints, counts_from, person=5)
    assert (commands.Console.counts_from, Task.counts_from) == (0, 1)


def test_the_most_prominent_of_several_is_taken_and_the_others_told(calls, tmp_path):
    result, task = run(tmp_path, tracks(3))
    assert len(calls) == 1 and calls[0][0].person_ids[0] == 2
    assert "2 other people" in task.warnings[0] and len(result["people"]) == 3


def test_all_people_share_one_world(calls, tmp_path):
    result, _ = run(tmp_path, tracks(2), person="all")
    assert [Path(p).name for p in result["motions"]] == ["motion_0.npz", "motion_1.npz"]
    first, second = (Motion.load(path) for path in result["motions"])
    assert (first.T_world_cam == second.T_world_cam).all() and second.T_world_cam[0, 3] == 7.0
    assert second.focal_source == "estimated" and calls[1][1].focal == 555.0


def test_of_several_who_are_wanted_these_alone_are_fitted_and_told_of(calls, tmp_path):
    keypoints = tracks(5)
    keypoints.confidence[:2, 4:] = 0  # two whom nobody wants are gone for a while
    result, task = run(tmp_path, keypoints, person=[2, 1])
    assert [Path(p).name for p in result["motions"]] == ["motion_1.npz", "motion_2.npz"]
    assert [figure["person"] for figure in result["figures"]] == [1, 2] and len(result["people"]) == 5
    assert len(calls) == 3 and not any("is seen in" in text for text in task.warnings), "the first one defines the world"
    with pytest.raises(LgdError, match="no person 7"):
        run(tmp_path, keypoints, person=[1, 7])


@pytest.fixture
def hardly_seen(calls, monkeypatch):
    """The ids of the people who are too little seen to be fitted, to be filled in."""
    fitter = sys.modules["bridge.lgd.fitter"]
    whole, ids = fitter.fit, set()

    def fit(keypoints, *rest):
        if int(keypoints.person_ids[0]) in ids:
            raise LgdError("no_person", "Hardly seen.")
        return whole(keypoints, *rest)

    monkeypatch.setattr(fitter, "fit", fit)
    return ids


@pytest.mark.parametrize("n", [0, 1, 2])
def test_of_all_people_one_who_is_hardly_seen_is_left_out(hardly_seen, tmp_path, n):
    hardly_seen.add(2 - n)  # the last track is the most prominent
    result, task = run(tmp_path, tracks(3), person="all")
    left = [m for m in range(3) if m != n]
    assert [Path(p).name for p in result["motions"]] == [f"motion_{m}.npz" for m in left]
    assert [figure["person"] for figure in result["figures"]] == left
    assert any(f"Person {n} is left out. Hardly seen." in text for text in task.warnings)
    first, second = (Motion.load(path) for path in result["motions"])
    assert (first.T_world_cam == second.T_world_cam).all()
    with pytest.raises(LgdError, match="Hardly seen"):
        run(tmp_path, tracks(3), person=n)


def test_a_person_is_fitted_beside_a_more_prominent_one_who_cannot_be(hardly_seen, tmp_path):
    hardly_seen.add(1)
    result, task = run(tmp_path, tracks(2), person=1)
    assert len(result["motions"]) == 1 and not any("left out" in text for text in task.warnings)


def test_where_no_one_can_be_fitted_that_is_said(hardly_seen, tmp_path):
    hardly_seen.update({0, 1, 2})
    with pytest.raises(LgdError, match="Hardly seen"):
        run(tmp_path, tracks(3), person="all")


def test_another_person_alone_stands_in_the_same_world(calls, tmp_path):
    result, _ = run(tmp_path, tracks(2), person=1)
    assert [Path(p).name for p in result["motions"]] == ["motion.npz"] and len(calls) == 2
    motion = Motion.load(result["motions"][0])
    assert motion.person_id == 0 and motion.T_world_cam[0, 3] == 7.0


def test_the_shape_of_a_rig_is_that_of_its_person_alone(calls, tmp_path):
    """Otherwise the most prominent one, who defines the world, would have the build of the other, and it another size."""
    run(tmp_path, tracks(2), person=1, betas=[2.0] * 10)
    assert [options.betas is None for _, options in calls] == [True, False]


@pytest.mark.parametrize("person", [2, -1, "both"])
def test_a_person_who_is_not_there(calls, tmp_path, person):
    with pytest.raises(LgdError) as caught:
        run(tmp_path, tracks(2), person=person)
    assert caught.value.code == "bad_input" and not calls


def test_no_one_is_seen(calls, tmp_path):
    nobody = tracks()
    nobody.confidence[:] = 0
    with pytest.raises(LgdError) as caught:
        run(tmp_path, nobody)
    assert caught.value.code == "no_person"


def test_range_rate_and_trace(calls, tmp_path):
    slow = Keypoints(tracks().keypoints, tracks().confidence, "coco17", (640, 480))
    result, task = run(tmp_path, slow, frames=[2, 5], fps=10.0, trace=True, mode="paper")
    assert calls[0][0].frames == 3 and calls[0][0].times()[0] == pytest.approx(0.2)
    assert any("10 frames a second" in text for text in task.warnings)
    assert any("has 1 frame a second" in text for text in run(tmp_path, slow, fps=1.0)[1].warnings)
    with np.load(result["traces"][0], allow_pickle=False) as trace:
        assert trace["names"].tolist() == ["a"]


def test_keypoints_without_a_rate_have_the_one_that_is_told_or_a_guess_that_is(calls, tmp_path):
    bare = dataclasses.replace(tracks(), fps=None)
    _, task = run(tmp_path, bare)
    assert ["30 frames a second are taken" in text for text in task.warnings] == [True] and calls[-1][0].rate() == 30
    for told in ({"fps": 25.0}, {"counted": 25.0}):
        _, task = run(tmp_path, bare, **told)
        assert not task.warnings and np.allclose(calls[-1][0].times(), np.arange(6) / 25)
    run(tmp_path, tracks(), fps=25.0, counted=25.0)
    assert calls[-1][0].rate() == 30, "what the file tells counts"


@pytest.mark.parametrize(("here", "mode", "code"), [((), None, "setup_incomplete"), (("video",), "paper", "setup_incomplete"), (("video",), "slow", "bad_input")])
def test_modes_whose_weights_are_not_there(calls, tmp_path, monkeypatch, here, mode, code):
    monkeypatch.setattr(bridge.lgd.checkpoint, "available_weights", lambda: dict.fromkeys(here))
    with pytest.raises(LgdError) as caught:
        run(tmp_path, tracks(), mode=mode)
    assert caught.value.code == code and not calls


def test_a_person_of_whom_nothing_is_seen(calls, tmp_path):
    keypoints = tracks(2)
    keypoints.confidence[0] = 0
    with pytest.raises(LgdError, match="Person 1 is seen in no frame") as caught:
        run(tmp_path, keypoints, person=1)
    assert caught.value.code == "no_person"
    result, _ = run(tmp_path, keypoints, person="all")
    assert [figure["person"] for figure in result["figures"]] == [0]


def test_a_range_that_the_keypoints_do_not_reach(calls, tmp_path):
    late = Keypoints(tracks().keypoints, tracks().confidence, "coco17", (640, 480), frame_times=10 / 30 + np.arange(6) / 30)
    with pytest.raises(LgdError, match="end before the range begins"):
        run(tmp_path, late, frames=[30, 40], counted=30.0)
    _, task = run(tmp_path, late, frames=[12, 40], counted=30.0)
    assert calls[-1][0].frames == 4 and any("24 frames before" in text for text in task.warnings)
    _, task = run(tmp_path, late, frames=[10, 17], counted=30.0)
    assert calls[-1][0].frames == 6 and not task.warnings


def test_a_foreign_file_may_end_before_the_footage(calls, tmp_path):
    """Where the person leaves before the clip's end; a moving camera has an entry for every picture of the range."""
    np.savez(tmp_path / "camera.npz", T_world_cam=np.tile(np.eye(4), (10, 1, 1)), cam_K=np.array([[500.0, 0, 320], [0, 500, 240], [0, 0, 1]]))
    _, task = run(tmp_path, tracks(), frames=[2, 12], short=True, camera=str(tmp_path / "camera.npz"))
    assert calls[-1][0].frames == 4 and calls[-1][1].T_world_cam.shape == (4, 4, 4)
    assert any("6 frames before" in text for text in task.warnings)
    with pytest.raises(LgdError, match="end before the range begins"):
        run(tmp_path, tracks(), frames=[6, 12], short=True)


@pytest.mark.parametrize("seed", range(20))
def test_a_damaged_file_is_a_sentence(tmp_path, seed):
    """Whatever a flipped byte does to the zip: told as the file's, not as ours."""
    file = tracks(frames=60).save(tmp_path / "k.npz")
    content, rng = bytearray(file.read_bytes()), np.random.default_rng(seed)
    for at in rng.integers(0, len(content), 40):
        content[at] ^= 1 << int(rng.integers(8))
    file.write_bytes(content)
    with pytest.raises(LgdError) as caught:
        Keypoints.load(file)
    assert caught.value.code == "bad_input"


def test_remarks_on_a_keypoint_file_are_told(calls, tmp_path, monkeypatch):
    importers = types.SimpleNamespace(read_keypoints=lambda path, image_size=None, fps=None: tracks(notes=["A guess."]))
    monkeypatch.setitem(sys.modules, "bridge.keypoints.importers", importers)
    _, task = run(tmp_path, tracks())
    assert task.warnings == ["A guess."]


def test_a_body_that_is_not_there(calls, tmp_path):
    with pytest.raises(LgdError) as caught:
        run(tmp_path, tracks(), body=str(tmp_path / "SMPL.pkl"))
    assert caught.value.code == "model_file"


def test_the_default_body_is_described(tmp_path):
    result = handlers.describe_body({"body": None, "out": str(tmp_path)}, Recorder())
    assert result["id"].startswith("lgd-default-")
    with np.load(result["file"], allow_pickle=False) as body:
        assert body["J_template"].shape == (24, 3) and body["J_shapedirs"].shape == (24, 3, 10)
        expected = body["J_regressor"] @ (body["v_template"] + body["shapedirs"] @ np.arange(10.0))
        assert np.allclose(body["J_template"] + body["J_shapedirs"] @ np.arange(10.0), expected, atol=1e-5)


def test_streamed_points_are_plain_and_finite():
    points = np.array([[[1.234567, np.nan], [3.0, 4.0]]], np.float32)
    assert handlers.streamed(points, np.array([[0.5, 0.25]])) == [[[0.0, 0.0, 0.0], [3.0, 4.0, 0.25]]]


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (MemoryError(), "out_of_memory", "memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 40 bytes."), "out_of_memory", "memory"),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 40 bytes."), "out_of_memory", "memory"),  # on Windows
        (Exception("OpenCV(4.11.0) alloc.cpp:73: error: (-4:Insufficient memory) Failed to allocate 40 bytes"), "out_of_memory", "memory"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "out_of_memory", "memory"),
        (ModuleNotFoundError("No module named 'torch'", name="torch"), "setup_incomplete", "torch"),
        (ImportError("DLL load failed", name="cv2._core"), "setup_incomplete", "opencv-python cannot be loaded"),
        (OSError(errno.ENOSPC, "No space left on device", "/x/motion.npz"), "disk", "/x/motion.npz"),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), "disk", "/x"),
    ],
)
def test_exceptions_with_a_meaning(error, code, words):
    fault = translate(error)
    assert fault.code == code and words in fault.text


def test_all_packages_that_a_python_lacks_are_named_at_once(tmp_path, monkeypatch):
    absent = lambda name: None if name in ("torch", "cv2") else object()  # noqa: E731
    monkeypatch.setattr(faults.importlib.util, "find_spec", absent)
    monkeypatch.setenv("LGD_HOME", str(tmp_path))
    fault = translate(ModuleNotFoundError("No module named 'torch'", name="torch"))
    assert "The packages torch and opencv-python are missing in the Python" in fault.text
    assert f"{sys.executable} -m pip install torch opencv-python" in fault.hint
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "env" / "venv"))  # the one that the set-up makes
    assert "repair the set-up" in translate(ModuleNotFoundError("No module named 'torch'", name="torch")).hint


def test_a_defect_leaves_its_traceback_in_a_file(tmp_path, monkeypatch):
    monkeypatch.setenv("LGD_HOME", str(tmp_path))
    with pytest.raises(LgdError) as caught, translated(print):
        raise KeyError("poses")
    log = next((tmp_path / "logs").iterdir())
    assert caught.value.code == "internal" and str(log) in caught.value.text
    assert "KeyError" in log.read_text() and "test_handlers" in log.read_text()


def test_warnings_of_the_core_reach_the_user():
    told = []
    with translated(told.append):
        warnings.warn_explicit("The body is larger than the scene.", UserWarning, handlers.__file__, 1)
        warnings.warn_explicit("deprecated", DeprecationWarning, handlers.__file__, 1)
        warnings.warn_explicit("of others", UserWarning, np.__file__, 1)
    assert told == ["The body is larger than the scene."]
