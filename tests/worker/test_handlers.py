# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests to core calls: people and their one world, cameras, ranges, and what becomes of exceptions."""

import dataclasses
import errno
import sys
import types
import warnings
from dataclasses import dataclass
from pathlib import Path

import pytest

np = pytest.importorskip("numpy")

import bridge.lgd  # noqa: E402
from bridge import commands, faults, handlers, inputs, protocol  # noqa: E402
from bridge.errors import LgdError  # noqa: E402
from bridge.faults import translate, translated  # noqa: E402
from bridge.keypoints.tracks import Keypoints  # noqa: E402
from bridge.motion import Motion  # noqa: E402
from bridge.server import Task  # noqa: E402


class Recorder:
    """Takes a job's messages; counts people as the command line does."""

    counts_from = commands.Console.counts_from

    def __init__(self):
        self.warnings, self.progressed, self.sent = [], [], []
        self.warning = self.warnings.append

    def progress(self, stage, done, total):
        self.progressed.append((stage, done, total))

    def send(self, type, **fields):
        self.sent.append({"type": type, **fields})

    def should_stop(self):
        return False


@dataclass(frozen=True)
class Options:
    mode: str = "video"
    weights: object = None
    focal: float | None = None
    T_world_cam: object = None
    steps: int | None = None
    device: str = "auto"
    betas: object = None
    body: str | None = None
    seed: int = 0
    trace: bool = False
    plant_feet: bool = False
    path: object = None


def tracks(people=1, frames=6, **more):
    """People side by side, the last one the biggest and so the most prominent."""
    rng = np.random.default_rng(0)
    points = rng.uniform(0, 100, (people, frames, 17, 2)) * (1 + np.arange(people))[:, None, None, None]
    return Keypoints(points, np.full((people, frames, 17), 0.9), "coco17", (640, 480), fps=30.0, **more)


@pytest.fixture
def calls(monkeypatch):
    """The fits asked for, with a fitter in the real one's place that only notes them."""
    noted = []

    def fit(keypoints, options, on_progress=None, should_stop=None):
        noted.append((keypoints, options))
        n = keypoints.frames
        world = np.eye(4) * 1.0 if options.T_world_cam is None else options.T_world_cam
        world = np.array(world)
        if options.T_world_cam is None:
            world[..., :3, 3] = 7.0
        motion = Motion(
            poses=np.zeros((n, 72)), betas=np.zeros(10), trans=np.zeros((n, 3)), joints=np.zeros((n, 24, 3)),
            cam_K=np.diag([options.focal or 555.0, options.focal or 555.0, 1.0]),
            focal_source="given" if options.focal else "estimated", T_world_cam=world, world_confidence=0.8,
            mocap_framerate=30.0, frame_times=keypoints.times(), gender="neutral", body_model="lgd-default-0",
            reprojection_px=np.full(n, 2.0), joint_confidence=np.ones((n, 24)), contacts=np.zeros((n, 4)),
            keypoints=keypoints.keypoints[0], confidence=keypoints.confidence[0], layout=keypoints.layout,
            image_size=np.array(keypoints.image_size), person_id=int(keypoints.person_ids[0]),
            keypoints_3d=np.zeros((n, 17, 3)), mode=options.mode, weights="w", bridge_version="1",
        )  # fmt: skip
        return motion, {"error": np.ones(3), "names": ["a"]} if options.trace else None

    fitter = types.SimpleNamespace(fit=fit, FitOptions=Options)
    checkpoint = types.SimpleNamespace(MODES=("video", "paper"), available_weights=lambda: {"video": {}, "paper": {}})
    for name, module in (("fitter", fitter), ("checkpoint", checkpoint)):
        monkeypatch.setitem(sys.modules, f"bridge.lgd.{name}", module)
        monkeypatch.setattr(bridge.lgd, name, module, raising=False)
    importers = types.SimpleNamespace(read_keypoints=lambda path, image_size=None: Keypoints.load(path))
    monkeypatch.setitem(sys.modules, "bridge.keypoints.importers", importers)
    return noted


def run(tmp_path, keypoints, counts_from=Recorder.counts_from, **request):
    keypoints.save(tmp_path / "k.npz")
    task = Recorder()
    task.counts_from = counts_from
    request = {"keypoints": str(tmp_path / "k.npz"), "out": str(tmp_path), **request}
    return handlers.fit(request, task), task


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


@pytest.mark.parametrize("taken, size, sentence", [(True, 1.0, "read from the background"), (True, 1.3, "grows or shrinks by 30 %"), (False, 1.0, "taken for one that stands still")])
def test_a_camera_that_turns_is_told(calls, tmp_path, monkeypatch, taken, size, sentence):
    turns = np.column_stack((np.linspace(0, 97, 6), np.zeros((6, 2)), np.linspace(1, size, 6)))
    fitted = bridge.lgd.fitter.fit
    if taken:
        monkeypatch.setattr(bridge.lgd.fitter, "fit", lambda *rest: (dataclasses.replace(fitted(*rest)[0], T_world_cam=np.tile(np.eye(4), (6, 1, 1))), None))
    _, task = run(tmp_path, tracks(2, camera_turns=turns), person="all")
    assert [sentence in text and "10 degrees" in text and ("Travelling" in text or "Scene Camera" in text) for text in task.warnings if "camera turns" in text] == [True]
    assert np.array_equal(calls[0][0].camera_turns, turns)
    assert "Video mode follows it" not in str(task.warnings)
    assert taken or "Video mode follows it" in str(run(tmp_path, tracks(camera_turns=turns), mode="paper")[1].warnings)
    for world, told in ((np.eye(4), [True]), (np.tile(np.eye(4), (6, 1, 1)), [])):
        np.savez(tmp_path / "camera.npz", T_world_cam=world)
        _, task = run(tmp_path, tracks(camera_turns=turns), camera=str(tmp_path / "camera.npz"))
        assert ["stands still" in text and "Camera to New" in text for text in task.warnings if "camera turns" in text] == told


def test_a_camera_that_rolls_zooms_or_looks_round_is_told_as_what_it_is(calls, tmp_path):
    """Nothing is advised that would not follow it."""
    still, grows = np.zeros((6, 1)), np.linspace(1, 1.3, 6)[:, None]
    rolls = np.hstack((still, still, np.linspace(0, np.radians(20), 6)[:, None], still + 1))
    zooms = np.hstack((still, still, still, grows))
    round_ = np.hstack((np.linspace(0, 2000, 6)[:, None], still, still, still + 1))
    np.savez(tmp_path / "camera.npz", T_world_cam=np.eye(4))
    for ask in ({"mode": "paper"}, {"camera": str(tmp_path / "camera.npz")}):
        told = lambda turns: " ".join(run(tmp_path, tracks(camera_turns=turns), **ask)[1].warnings)  # noqa: B023, E731
        assert "turns by 20 degrees" in told(rolls)
        assert "grows or shrinks by 30 %" in told(zooms) and "turns" not in told(zooms)
        assert "turns by 206 degrees" in told(round_)
        for turns in (zooms, round_):
            assert "Video mode" not in told(turns) and "to New" not in told(turns)


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


@pytest.mark.parametrize("focal", [35.0, 1.0, 1e8])
def test_millimetres_are_no_focal_length(calls, tmp_path, focal):
    keypoints = tracks()
    with pytest.raises(LgdError, match="No lens") as caught:
        run(tmp_path, keypoints, focal=focal)
    side = max(keypoints.image_size)
    assert f"times {side}; 35 mm are {35 / 36 * side:.0f} px" in caught.value.hint and not calls


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
    with np.load(result["traces"][0], allow_pickle=False) as trace:
        assert trace["names"].tolist() == ["a"]


def test_a_camera_file(calls, tmp_path):
    world = np.broadcast_to(np.eye(4), (6, 4, 4))
    np.savez(tmp_path / "camera.npz", T_world_cam=world, cam_K=np.diag([800.0, 800.0, 1.0]))
    run(tmp_path, tracks(), camera=str(tmp_path / "camera.npz"))
    assert calls[0][1].T_world_cam.shape == (6, 4, 4) and calls[0][0].cam_K[0, 0] == 800.0


@pytest.mark.parametrize(
    "arrays",
    [
        {},
        {"T_world_cam": np.eye(3)},
        {"T_world_cam": np.broadcast_to(np.eye(4), (5, 4, 4))},
        {"T_world_cam": np.eye(4) * 2},
        {"T_world_cam": np.full((4, 4), np.nan)},
        {"T_world_cam": np.diag([1.0, 1.0, -1.0, 1.0])},
        {"T_world_cam": np.eye(4), "cam_K": np.eye(4)},
        {"T_world_cam": np.array([{}], dtype=object)},
        {"T_world_cam": np.eye(4) + np.outer([0, 0, 0, 1], [1, 2, 3, 0])},
        {"T_world_cam": np.eye(4), "cam_K": np.array([[900.0, 0, 0], [0, 900, 0], [320, 240, 1]])},
        {"T_world_cam": np.eye(4), "cam_K": np.diag([900.0, -900.0, 1.0])},
        {"distortion": np.zeros(5)},
        {"T_world_cam": np.eye(4), "distortion": np.zeros(5)},
        {"cam_K": np.diag([900.0, 900.0, 1.0]), "distortion": np.zeros(3)},
        {"cam_K": np.diag([900.0, 900.0, 1.0]), "distortion": np.array([0.1, np.nan, 0, 0])},
        {"cam_K": np.tile(np.diag([900.0, 900.0, 1.0]), (6, 1, 1)), "distortion": np.zeros(4)},
        {"cam_K": np.tile(np.diag([900.0, 900.0, 1.0]), (5, 1, 1))},
    ],
    ids=range(17),
)
def test_a_bad_camera_file(tmp_path, arrays):
    np.savez(tmp_path / "camera.npz", **arrays)
    with pytest.raises(LgdError) as caught:
        inputs.read_camera(str(tmp_path / "camera.npz")).of(6)
    assert caught.value.code == "bad_input"


@pytest.mark.parametrize(
    ("feet", "camera", "told"),
    [(0.05, 1.5, None), (3.0, 4.5, "3.0 times too large"), (-0.75, 0.75, "2.0 times too small"), (-1.4, 0.0, "below"), (0.35, 8.0, None)],
)
def test_a_camera_whose_scale_the_body_denies(calls, tmp_path, monkeypatch, feet, camera, told):
    """feet: their height in the camera's world, m."""
    world = np.array([[1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, camera], [0, 0, 0, 1]])
    np.savez(tmp_path / "camera.npz", T_world_cam=world)
    fitted = bridge.lgd.fitter.fit

    def standing(keypoints, options, *rest):
        motion, trace = fitted(keypoints, options, *rest)
        motion.joints = motion.joints + np.array([0, camera - feet, 4.0])
        return motion, trace

    monkeypatch.setattr(bridge.lgd.fitter, "fit", standing)
    _, task = run(tmp_path, tracks(), camera=str(tmp_path / "camera.npz"))
    assert [told in text for text in task.warnings] == ([True] if told else [])


@pytest.mark.parametrize("place", [True, False])
def test_a_lens_that_distorts_is_straightened(calls, tmp_path, place):
    import cv2

    K, bent = np.array([[600.0, 0, 320], [0, 600, 236], [0, 0, 1]]), np.array([-0.2, 0.05, 0.01, -0.02, 0.01])
    straight = np.random.default_rng(0).uniform([100, 60], [540, 420], (1, 6, 17, 2))
    rays = np.concatenate([(straight.reshape(-1, 2) - K[:2, 2]) / 600, np.ones((102, 1))], -1)
    filmed = cv2.projectPoints(rays, np.zeros(3), np.zeros(3), K, bent)[0].reshape(straight.shape)
    filmed[0, 2, 5] = 1e5  # where this lens shows nothing
    np.savez(tmp_path / "camera.npz", cam_K=K, distortion=bent, **({"T_world_cam": np.eye(4)} if place else {}))
    _, task = run(tmp_path, dataclasses.replace(tracks(), keypoints=filmed), camera=str(tmp_path / "camera.npz"))
    fitted, options = calls[-1][0], calls[-1][1]
    assert (options.T_world_cam is not None) == place and np.array_equal(fitted.cam_K, K)
    lost = np.zeros((1, 6, 17), bool)
    lost[0, 2, 5] = True
    assert np.abs(fitted.keypoints - straight)[~lost].max() < 1e-3 and np.array_equal(fitted.confidence == 0, lost)
    assert len([text for text in task.warnings if text.startswith("1 of the keypoints")]) == 1


def test_a_camera_of_no_lens_is_refused(calls, tmp_path):
    with pytest.raises(LgdError, match="No lens"):
        run(tmp_path, tracks(cam_K=np.diag([1.4, 1.4, 1.0])))


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
    importers = types.SimpleNamespace(read_keypoints=lambda path, image_size=None: tracks(notes=["A guess."]))
    monkeypatch.setitem(sys.modules, "bridge.keypoints.importers", importers)
    _, task = run(tmp_path, tracks())
    assert task.warnings == ["A guess."]


def test_a_camera_file_that_is_none(tmp_path):
    for content in (b"", b"PK\x03\x04 half a zip", b"text"):
        (tmp_path / "camera.npz").write_bytes(content)
        with pytest.raises(LgdError):
            inputs.read_camera(str(tmp_path / "camera.npz")).of(6)
    with pytest.raises(LgdError):
        inputs.read_camera(str(tmp_path / "none.npz"))


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


def test_a_camera_that_travels_is_found_and_told(calls, tmp_path, monkeypatch):
    asked, way = [], np.tile(np.eye(4), (6, 1, 1))
    way[:, 0, 3] = np.linspace(0, 2.5, 6)
    fitted = bridge.lgd.fitter.fit

    class Untold(Exception):
        pass

    def find(source, keypoints, cam_K, distortion, on_progress, should_stop):
        asked.append((source, keypoints.frames, cam_K, distortion))
        if source["path"] == "wall.mp4":
            raise Untold("the camera hardly travels")
        return "the path"

    def fit(keypoints, options, *rest):
        motion, trace = fitted(keypoints, options, *rest)
        return (dataclasses.replace(motion, T_world_cam=way) if options.path or keypoints.camera_turns is not None else motion), trace

    monkeypatch.setattr(bridge.lgd.fitter, "fit", fit)
    monkeypatch.setitem(sys.modules, "bridge.keypoints.camera_path", types.SimpleNamespace(find_camera_path=find, Untold=Untold, colmap=lambda: None))
    turns = np.column_stack((np.linspace(0, 97, 6), np.zeros((6, 2)), np.ones(6)))
    _, task = run(tmp_path, tracks(2, camera_turns=turns), person="all", travels={"path": "walk.mp4"})
    assert asked == [({"path": "walk.mp4"}, 6, None, None)]
    assert [options.path for _, options in calls] == ["the path", None] and np.array_equal(calls[1][1].T_world_cam, way)
    assert ["travels over 2.5 m" in text for text in task.warnings if "camera" in text] == [True]
    run(tmp_path, tracks(), focal=700.0, travels={"path": "walk.mp4"})
    assert asked[1][2][0, 0] == 700
    for grown in (1.0, 1.5):
        turns[:, 3] = np.linspace(1, grown, 6)
        _, task = run(tmp_path, tracks(camera_turns=turns), travels={"path": "wall.mp4"})
        assert "The camera turns" in task.warnings[-1] and not any("Travelling" in text for text in task.warnings)
    _, task = run(tmp_path, tracks(), travels={"path": "wall.mp4"})
    assert calls[-1][1].path is None and ["the camera hardly travels. It was taken" in text for text in task.warnings] == [True]
    np.savez(tmp_path / "camera.npz", T_world_cam=np.eye(4))
    task = Recorder()
    with pytest.raises(LgdError, match="another one is given"):  # before anything is detected
        handlers.fit({"source": {"path": "walk.mp4"}, "out": str(tmp_path), "camera": str(tmp_path / "camera.npz"), "travels": {"path": "walk.mp4"}}, task)
    assert not task.progressed
    with pytest.raises(LgdError, match="another one is given"):
        run(tmp_path, tracks(), camera=str(tmp_path / "camera.npz"), travels={"path": "walk.mp4"})
    for more, counted in (({"short": True}, None), ({"counted": 30.0}, 30.0), ({"counted": 60.0}, 60.0)):
        _, task = run(tmp_path, tracks(), frames=[2, 20], travels={"path": "walk.mp4", "frames": [12, 30], "counted": counted}, **more)
        assert asked[-1][0]["frames"] == [12, 12 + (4 if counted != 60 else 9)] and "end" in task.warnings[0]
    with pytest.raises(LgdError, match="zooms"):
        run(tmp_path, tracks(cam_K=np.tile(np.diag([500.0, 500, 1]), (6, 1, 1))), travels={"path": "walk.mp4"})
