# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests to core calls: cameras and lenses, told, given, that turn and that travel, and what is said of them."""

import dataclasses
import sys
import types

import pytest

np = pytest.importorskip("numpy")

from noted_fits import Recorder, run, tracks  # noqa: E402

import bridge.lgd  # noqa: E402
from bridge import handlers, inputs  # noqa: E402
from bridge.errors import LgdError  # noqa: E402


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
        assert "Video mode" not in told(zooms) and "to New" not in told(zooms)
        assert ("Video mode follows it" if "mode" in ask else "set Camera to New") in told(round_)


def test_a_camera_that_zooms_is_told_and_a_second_person_is_seen_through_its_lens(calls, tmp_path, monkeypatch):
    turns = np.column_stack((np.linspace(0, 97, 6), np.zeros((6, 2)), np.linspace(1, 0.8, 6)))
    fitted, lenses = bridge.lgd.fitter.fit, np.stack([np.diag([600 * zoom, 600 * zoom, 1.0]) for zoom in np.linspace(1, 1.25, 6)])
    way = np.tile(np.eye(4), (6, 1, 1))
    for pans, sentence in ((turns, "The camera turns, by up to 9 degrees, and zooms, by 25 %: that was"), (turns * [0, 1, 1, 1], "The camera zooms, by 25 %: that was")):
        monkeypatch.setattr(bridge.lgd.fitter, "fit", lambda *rest: (dataclasses.replace(fitted(*rest)[0], T_world_cam=way, cam_K=lenses), None))
        calls.clear()
        _, task = run(tmp_path, tracks(2, camera_turns=pans, camera_travels=False), person="all")
        told = [text for text in task.warnings if "camera" in text]
        assert [sentence in text for text in told] == [True] and "Scene Camera" not in told[0]
        (_, first), (second, other) = ((call[0], call[1]) for call in calls)
        assert first.T_world_cam is None and other.T_world_cam is way and other.focal is None and np.array_equal(second.cam_K, lenses)


def test_a_zoom_before_a_told_camera_is_told_as_what_it_is(calls, tmp_path, monkeypatch):
    """Nothing is said of a zoom that is told, as a second solve's camera tells it; of one that is not, what follows it."""
    zooms = np.column_stack((np.zeros((6, 3)), np.linspace(1, 1.3, 6)))
    file, told = tmp_path / "camera.npz", lambda **ask: " ".join(run(tmp_path, tracks(camera_turns=zooms, camera_travels=False), **ask)[1].warnings)
    np.savez(file, T_world_cam=np.eye(4))
    assert "zooms, by 30 %, but the one that was told keeps its lens: set Camera to New" in told(camera=str(file))
    assert "Video mode follows it" in told(mode="paper")
    lenses, fitted = np.tile(np.diag([600.0, 600, 1]), (6, 1, 1)), bridge.lgd.fitter.fit
    lenses[:, :2] *= zooms[:, 3, None, None] ** -1
    monkeypatch.setattr(bridge.lgd.fitter, "fit", lambda *rest: (dataclasses.replace(fitted(*rest)[0], cam_K=lenses), None))
    for place in ({"T_world_cam": np.eye(4)}, {}):
        np.savez(file, cam_K=lenses, **place)
        assert not told(camera=str(file)), place
    zooms[:, 0] = np.linspace(0, 97, 6)
    way = np.tile(np.eye(4), (6, 1, 1))
    monkeypatch.setattr(bridge.lgd.fitter, "fit", lambda *rest: (dataclasses.replace(fitted(*rest)[0], cam_K=lenses, T_world_cam=way), None))
    assert "turns, by up to" in told(camera=str(file)) and "zooms" not in told(camera=str(file))


@pytest.mark.parametrize("focal", [35.0, 1.0, 1e8])
def test_millimetres_are_no_focal_length(calls, tmp_path, focal):
    keypoints = tracks()
    with pytest.raises(LgdError, match="No lens") as caught:
        run(tmp_path, keypoints, focal=focal)
    side = max(keypoints.image_size)
    assert f"times {side}; 35 mm are {35 / 36 * side:.0f} px" in caught.value.hint and not calls


def test_a_camera_file(calls, tmp_path):
    world = np.broadcast_to(np.eye(4), (6, 4, 4))
    np.savez(tmp_path / "camera.npz", T_world_cam=world, cam_K=np.diag([800.0, 800.0, 1.0]))
    run(tmp_path, tracks(), camera=str(tmp_path / "camera.npz"))
    assert calls[0][1].T_world_cam.shape == (6, 4, 4) and calls[0][0].cam_K[0, 0] == 800.0


def test_each_picture_has_the_camera_of_the_frame_it_is_shown_on(calls, tmp_path):
    """The add-on tells a camera for each of the scene's frames; of a video of variable rate some frames show no picture of their own."""
    world, K = np.tile(np.eye(4), (9, 1, 1)), np.tile(np.diag([800.0, 800.0, 1.0]), (9, 1, 1))
    world[:, 0, 3], K[:, 0, 0] = np.arange(9), 800 + np.arange(9)
    np.savez(tmp_path / "camera.npz", T_world_cam=world, cam_K=K)
    camera, shown = str(tmp_path / "camera.npz"), [2, 3, 5, 6, 7, 9]
    for keypoints, more, rows in (
        (tracks(frame_times=np.array(shown) / 30), {"frames": [2, 11], "counted": 30.0}, np.array(shown) - 2),
        (tracks(), {"frames": [0, 9], "short": True}, np.arange(6)),  # of pictures whose keypoints end early
    ):
        run(tmp_path, keypoints, camera=camera, **more)
        seen, options = calls[-1]
        assert options.T_world_cam[:, 0, 3].tolist() == rows.tolist() and (seen.cam_K[:, 0, 0] - 800).tolist() == rows.tolist()


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
        {"T_world_cam": np.eye(4), "cam_K": np.array([[900.0, 30, 320], [0, 900, 240], [0, 0, 1]])},
        {"distortion": np.zeros(5)},
        {"T_world_cam": np.eye(4), "distortion": np.zeros(5)},
        {"cam_K": np.diag([900.0, 900.0, 1.0]), "distortion": np.zeros(3)},
        {"cam_K": np.diag([900.0, 900.0, 1.0]), "distortion": np.array([0.1, np.nan, 0, 0])},
        {"cam_K": np.tile(np.diag([900.0, 900.0, 1.0]), (6, 1, 1)), "distortion": np.zeros(4)},
        {"cam_K": np.tile(np.diag([900.0, 900.0, 1.0]), (5, 1, 1))},
    ],
    ids=range(18),
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
    for betas in (None, [0.0] * 10):  # each time, also for a rig that is solved again
        _, task = run(tmp_path, tracks(), camera=str(tmp_path / "camera.npz"), betas=betas)
        assert [told in text for text in task.warnings] == ([True] if told else [])
    _, task = run(tmp_path, tracks(), camera=str(tmp_path / "camera.npz"), camera_kept=True)
    assert not task.warnings  # an earlier solve found it
    for kept, ground in ((False, "the given camera's ground (z = 0)"), (True, "the first person's ground")):  # the first one need not stand on it
        _, task = run(tmp_path, tracks(2), camera=str(tmp_path / "camera.npz"), camera_kept=kept, person="all")
        assert [ground in text for text in task.warnings if "Person 1 stands" in text] == ([True] if abs(feet) > 0.5 else [])


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


def test_people_have_the_numbers_by_which_they_were_chosen_where_a_lens_is_straightened(calls, tmp_path):
    """Who is near the edge of a barrel lens grows by that, and would come first."""
    figure = np.random.default_rng(0).uniform(-0.5, 0.5, (17, 2)) * [60, 170]
    points = np.stack([np.tile(figure + [320, 240], (6, 1, 1)), np.tile(0.95 * figure + [580, 240], (6, 1, 1))])
    people = dataclasses.replace(tracks(2), keypoints=points)
    np.savez(tmp_path / "camera.npz", cam_K=[[300.0, 0, 320], [0, 300, 240], [0, 0, 1]], distortion=[-0.12, 0, 0, 0])
    for person in (0, 1):
        result, _ = run(tmp_path, people, camera=str(tmp_path / "camera.npz"), person=person)
        told = people.describe()[person]["id"]
        assert calls[-1][0].person_ids[0] == told == result["people"][person]["id"]


@pytest.mark.parametrize("shape, taken", [((1, 5), True), ((5, 1), True), ((1, 8), True), ((4, 1), False), ((2, 4), False)])
def test_a_distortion_is_taken_in_the_shape_that_a_calibration_gives_it(tmp_path, shape, taken):
    """OpenCV's calibrateCamera's; four values in a column are its fisheye model's."""
    bent = np.linspace(0, 0.1, np.prod(shape))
    np.savez(tmp_path / "camera.npz", cam_K=np.diag([900.0, 900.0, 1.0]), distortion=bent.reshape(shape))
    if taken:
        assert np.array_equal(inputs.read_camera(str(tmp_path / "camera.npz")).distortion, bent)
    else:
        with pytest.raises(LgdError, match="distortion"):
            inputs.read_camera(str(tmp_path / "camera.npz"))


def test_a_camera_of_no_lens_is_refused(calls, tmp_path):
    with pytest.raises(LgdError, match="No lens"):
        run(tmp_path, tracks(cam_K=np.diag([1.4, 1.4, 1.0])))


def test_a_camera_file_that_is_none(tmp_path):
    for content in (b"", b"PK\x03\x04 half a zip", b"text"):
        (tmp_path / "camera.npz").write_bytes(content)
        with pytest.raises(LgdError):
            inputs.read_camera(str(tmp_path / "camera.npz")).of(6)
    with pytest.raises(LgdError):
        inputs.read_camera(str(tmp_path / "none.npz"))


PATH = types.SimpleNamespace(rather=None)


class Untold(Exception):
    pass


def with_paths(monkeypatch, find, colmap=lambda: None):
    """Camera paths are found by `find`, and fits before them are in a world of their own."""
    way = np.tile(np.eye(4), (6, 1, 1))
    way[:, 0, 3] = np.linspace(0, 2.5, 6)
    fitted = bridge.lgd.fitter.fit

    def fit(keypoints, options, *rest):
        motion, trace = fitted(keypoints, options, *rest)
        turned = keypoints.camera_turns is not None and options.mode == "video" and options.T_world_cam is None
        return (dataclasses.replace(motion, T_world_cam=way) if options.path or turned else motion), trace

    monkeypatch.setattr(bridge.lgd.fitter, "fit", fit)
    path = types.SimpleNamespace(find_camera_path=find, Untold=Untold, HARDLY="the camera hardly travels", NO_SHIFT="no shift")
    monkeypatch.setitem(sys.modules, "bridge.keypoints.camera_path", path)
    monkeypatch.setitem(sys.modules, "bridge.keypoints.apart", types.SimpleNamespace(check_installed=colmap))
    return way


def test_a_camera_that_travels_is_found_and_told(calls, tmp_path, monkeypatch):
    asked = []

    def find(source, keypoints, cam_K, distortion, on_progress, should_stop):
        asked.append((source, keypoints.frames, cam_K, distortion))
        if source["path"] == "wall.mp4":
            raise Untold("the camera hardly travels")
        return PATH

    way = with_paths(monkeypatch, find)
    turns = np.column_stack((np.linspace(0, 97, 6), np.zeros((6, 2)), np.ones(6)))
    _, task = run(tmp_path, tracks(2, camera_turns=turns), person="all", moves="travels", footage={"path": "walk.mp4"})
    assert asked == [({"path": "walk.mp4"}, 6, None, None)]
    assert [options.path for _, options in calls] == [PATH, None] and np.array_equal(calls[1][1].T_world_cam, way)
    assert ["travels over 2.5 m" in text for text in task.warnings if "camera" in text] == [True]
    run(tmp_path, tracks(), focal=700.0, moves="travels", footage={"path": "walk.mp4"})
    assert asked[1][2][0, 0] == 700
    with monkeypatch.context() as wrong:
        wrong.setattr(PATH, "rather", 850.0)
        _, task = run(tmp_path, tracks(), focal=1800.0, moves="travels", footage={"path": "walk.mp4"})
    assert ["about 850 px, not the 1800 px" in text for text in task.warnings if "focal" in text] == [True]
    bends = np.array([-0.3, 0.1, 0.01, 0.02, -0.05])
    np.savez(tmp_path / "lens.npz", cam_K=np.diag([500.0, 500, 1]), distortion=bends)
    for focal, longer in ((None, 1.0), (750.0, 1.5)):  # of the same pictures: another focal length, other values
        run(tmp_path, tracks(), focal=focal, camera=str(tmp_path / "lens.npz"), moves="travels", footage={"path": "walk.mp4"})
        assert asked[-1][2][0, 0] == (focal or 500) and asked[-1][3] == pytest.approx(bends * longer ** np.array([2, 4, 1, 1, 6]))
    for grown in (1.0, 1.5):
        turns[:, 3] = np.linspace(1, grown, 6)
        _, task = run(tmp_path, tracks(camera_turns=turns), moves="travels", footage={"path": "wall.mp4"})
        assert "The camera turns" in task.warnings[-1] and not any("Travelling" in text for text in task.warnings)
    _, task = run(tmp_path, tracks(), moves="travels", footage={"path": "wall.mp4"})
    assert calls[-1][1].path is None and [text.endswith("the camera hardly travels. It was taken for one that does not travel.") for text in task.warnings] == [True]
    np.savez(tmp_path / "camera.npz", T_world_cam=np.eye(4))
    task = Recorder()
    with pytest.raises(LgdError, match="another one is given"):  # before anything is detected
        handlers.fit({"source": {"path": "walk.mp4"}, "out": str(tmp_path), "camera": str(tmp_path / "camera.npz"), "moves": "travels"}, task)
    assert not task.progressed
    with pytest.raises(LgdError, match="another one is given"):
        run(tmp_path, tracks(), camera=str(tmp_path / "camera.npz"), moves="travels", footage={"path": "walk.mp4"})
    for more, counted in (({"short": True}, None), ({"counted": 30.0}, 30.0), ({"counted": 60.0}, 60.0)):
        _, task = run(tmp_path, tracks(), frames=[2, 20], moves="travels", footage={"path": "walk.mp4", "frames": [12, 30], "counted": counted}, **more)
        assert asked[-1][0]["frames"] == [12, 12 + (4 if counted != 60 else 9)] and "end" in task.warnings[0]
    paused = np.r_[0:10, 40:60] / 30  # the picture before a pause is shown through it, and a range may begin there
    run(tmp_path, tracks(frames=30, frame_times=paused), frames=[30, 80], counted=30.0, moves="travels", footage={"path": "walk.mp4", "frames": [30, 80], "counted": 30.0})
    assert asked[-1][0]["frames"] == [30, 60] and asked[-1][1] == 21
    with pytest.raises(LgdError, match="zooms"):
        run(tmp_path, tracks(cam_K=np.tile(np.diag([500.0, 500, 1]), (6, 1, 1))), moves="travels", footage={"path": "walk.mp4"})


def test_a_camera_that_is_seen_to_travel_is_followed_where_nothing_else_is_told(calls, tmp_path, monkeypatch):
    asked, reason = [], ["the camera hardly travels"]

    def find(source, *rest):
        asked.append(source["path"])
        if full:
            raise LgdError("disk", "The temporary folder is full.", "Free some space.")
        if reason:
            raise Untold(reason[0])
        return PATH

    def colmap():
        if missing:
            raise LgdError("setup_incomplete", "COLMAP is not installed.")

    missing = full = False
    with_paths(monkeypatch, find, colmap)
    walk, turns = {"footage": {"path": "walk.mp4"}}, np.column_stack((np.linspace(0, 97, 6), np.zeros((6, 2)), np.ones(6)))

    def told(travels=True, turns=None, **request):
        _, task = run(tmp_path, tracks(camera_travels=travels, camera_turns=turns), **request)
        return " ".join(text for text in task.warnings if "camera" in text.lower())

    assert told(**walk) == "" and asked == ["walk.mp4"]  # nobody asked whether it does
    reason[0] = "what is found does not fit together"
    assert "cannot be read from the background: what is found" in told(**walk) and told(**walk).endswith("choose Scene Camera.")
    reason.clear()
    assert "travels over" in told(**walk) and calls[-1][1].path == PATH and len(asked) == 4
    for travels in (False, None):
        assert told(travels, **walk) == "" and "Travelling" not in told(False, turns, **walk)
    assert told(moves="still", turns=turns, **walk) == "" and calls[-1][0].camera_turns is None
    for request in ({}, {"mode": "paper", **walk}):  # no footage; the published method's camera stands still
        assert "set Camera to Travelling" in told(**request) and "set Camera to Travelling" in told(turns=turns, **request)
    np.savez(tmp_path / "camera.npz", T_world_cam=np.eye(4))
    assert told(turns=turns, camera=str(tmp_path / "camera.npz"), **walk).endswith("slides: set Camera to Travelling.")
    np.savez(tmp_path / "camera.npz", T_world_cam=np.tile(np.eye(4), (6, 1, 1)))
    assert told(camera=str(tmp_path / "camera.npz"), **walk) == ""
    full = True
    _, task = run(tmp_path, tracks(camera_travels=True), **walk)
    assert calls[-1][1].path is None and task.warnings[-1].endswith("is full. The camera was taken for one that does not travel. Free some space.")
    with pytest.raises(LgdError, match="is full"):
        run(tmp_path, tracks(), moves="travels", **walk)
    missing = True
    assert "set Camera to Travelling" in told(**walk)
    assert len(asked) == 6
