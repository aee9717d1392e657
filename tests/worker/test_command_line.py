# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line: exit codes, one sentence for what is wrong, and nothing left behind on failure."""

import json
import os
import sys
import types

import pytest
from worker_desk import ROOT

np = pytest.importorskip("numpy")
cv2 = pytest.importorskip("cv2", reason="opencv-python is not installed")

from commands import bad, blank_video, keypoints  # noqa: E402

from bridge import cli, models  # noqa: E402
from bridge.errors import LgdError  # noqa: E402


def test_fetch_says_what_to_do(bridge, tmp_path, monkeypatch):
    monkeypatch.setattr(models, "mediapipe", lambda prefix=None: None)
    code, out, err = bridge("fetch")
    assert code == 4 and out == "" and "pip install mediapipe" in err and "Without" not in err
    monkeypatch.setattr(models, "mediapipe", lambda prefix=None: tmp_path.parent / f"{tmp_path.name}-mediapipe")
    code, out, err = bridge("fetch", "--from", tmp_path)
    assert code == 4 and out == "" and "not the release" in err and f"pip install {models.MEDIAPIPE}" in err
    monkeypatch.setattr(models, "suits", lambda package: True)
    code, out, err = bridge("fetch", "--from", tmp_path)
    assert code == 4 and out == "" and models.ARCHIVE in err and models.WITHOUT in err and "41 MB" not in err


@pytest.mark.parametrize("command", ["detect", "fit"])
def test_a_missing_file(bridge, command):
    bad(bridge(command, "none.mp4"), "none.mp4", "does not exist")
    bad(bridge(command, ""), "no name", "bridge " + command)


def test_a_missing_keypoint_file(bridge):
    bad(bridge("fit", "none.npz"), "none.npz", "does not exist")
    bad(bridge("fit", "none.json"), "none.json")


@pytest.mark.parametrize("command", ["detect", "fit"])
def test_text_that_calls_itself_a_video(bridge, tmp_path, command):
    (tmp_path / "notes.mp4").write_text("dear diary")
    bad(bridge(command, "notes.mp4"), "notes.mp4")


@pytest.mark.parametrize("command", ["detect", "fit"])
def test_an_empty_folder_and_an_empty_file(bridge, tmp_path, command):
    (tmp_path / "shots").mkdir()
    bad(bridge(command, "shots"), "shots")
    (tmp_path / "empty.mp4").touch()
    bad(bridge(command, "empty.mp4"), "empty.mp4")


def test_damaged_keypoint_files(bridge, tmp_path):
    (tmp_path / "text.npz").write_text("no zip")
    bad(bridge("fit", "text.npz"), "text.npz")
    whole = keypoints(tmp_path / "whole.npz").read_bytes()
    (tmp_path / "half.npz").write_bytes(whole[: len(whole) // 2])
    bad(bridge("fit", "half.npz"), "half.npz")
    (tmp_path / "flipped.npz").write_bytes(
        whole[:200] + bytes(b ^ 0xFF for b in whole[200:260]) + whole[260:]
    )
    bad(bridge("fit", "flipped.npz"), "flipped.npz")
    (tmp_path / "broken.json").write_text('{"annotations": [')
    bad(bridge("fit", "broken.json"), "broken.json")


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"keypoints": np.full((5, 17, 2), np.nan, np.float32)}, "seen"),
        ({"layout": "coco18"}, "coco18"),
        ({"layout": None}, "layout"),
        ({"confidence": np.ones((4, 17))}, "shape"),
        ({"keypoints": np.zeros((5, 18, 2)), "confidence": np.ones((5, 18))}, "17"),
        ({"keypoints": np.zeros((0, 17, 2)), "confidence": np.ones((0, 17))}, "no frames"),
        ({"image_size": np.array([0, 0])}, "size"),
        ({"fps": -1.0}, "rate"),
        ({"frame_times": np.zeros(5)}, "rising"),
        ({"cam_K": np.eye(4)}, "cam_K"),
        ({"cam_K": np.array([[900.0, 0, 0], [0, 900, 0], [320, 240, 1]])}, "cam_K"),
        ({"cam_K": np.diag([900.0, -900.0, 1.0])}, "cam_K"),
        ({"keypoints": np.array([[["a"]]])}, "keypoints"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_keypoints_that_make_no_sense(bridge, tmp_path, change, word):
    keypoints(tmp_path / "odd.npz", **change)
    bad(bridge("fit", "odd.npz"), word)


def test_a_pickle_is_not_opened(bridge, tmp_path):
    np.savez(tmp_path / "evil.npz", keypoints=np.array([print], dtype=object))
    bad(bridge("fit", "evil.npz"), "evil.npz")


@pytest.mark.parametrize(
    "options",
    [
        ["--box", "1,2,3"],
        ["--box", "1,2,3,nan"],
        ["--box", "1,2,3,0"],
        ["--box", "1,2,3,4@9"],
        ["--box", "1,2,3,4@9:9"],
        ["--frames", "4"],
        ["--frames", "7:3"],
        ["--frames", "-1:3"],
        ["--fps", "0"],
        ["--fps", "fast"],
        ["--person", "both"],
        ["--person", "-1"],
        ["--device", "tpu"],
        ["--mode", "best"],
        ["--focal", "-5"],
        ["--focal", "inf"],
        ["--steps", "many"],
        ["--steps", "9"],
        ["--speed", "3"],
        ["-o", "result.txt"],
        ["-o", "none/motion.npz"],
        ["--trace", "none/trace.npz"],
        ["--detector", "x.onnx"],
        ["--box", "1,2,3,4"],
        ["--person", "1"],
        ["--size", "640x480"],
        ["--size", "0,480"],
        ["--frames", "3:9"],
        ["--frames", "8:9"],
        ["--body", "none.pkl"],
        ["--camera", "none.npz"],
        ["--weights", "none.pt"],
    ],
    ids=" ".join,
)
def test_bad_options_of_fit(bridge, tmp_path, options):
    keypoints(tmp_path / "k.npz")
    bad(bridge("fit", "k.npz", *options))


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--device", "cuda" if sys.platform == "darwin" else "mps"], "offers no"),
        (["--body", "body.npz"], "name none"),
        (["--camera", "camera.npz"], "T_world_cam"),
        (["--trace", "trace.npz", "--mode", "video"], "--mode paper"),
        (["--steps", "9"], "0 to 8"),
        (["--weights", "body.npz"], "holds no weights"),
        (["--weights", str(ROOT / "bridge/lgd/weights/paper.pt"), "--mode", "video"], "not of video mode"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_what_can_be_wrong_is_said_before_the_footage_is_looked_at(bridge, tmp_path, monkeypatch, options, word):
    pytest.importorskip("torch", reason="torch is not installed")
    from bridge import handlers

    monkeypatch.setattr(handlers, "_detect", lambda *_: pytest.fail("the detection began"))
    blank_video(tmp_path / "v.mp4", 3)
    np.savez(tmp_path / "body.npz", a=np.zeros(3))
    np.savez(tmp_path / "camera.npz", T_world_cam=np.eye(3))
    code, out, err = bridge("fit", "v.mp4", *options)
    assert code == 2 and out == "" and word in err and "field" not in err, err


def test_progress_off_a_terminal_counts_only_what_has_parts(capsys):
    from bridge.commands import Console

    console = Console({})
    for stage, total in (("load", 1), ("detect", 20)):
        for done in range(total + 1):
            console.progress(stage, done, total)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "load" and lines[1] == "detect 0/20" and lines[-1] == "detect 20/20" and len(lines) == 12


def test_remarks_advise_options_and_no_menu(capsys):
    from bridge import remarks
    from bridge.commands import Console

    turns = np.column_stack((np.linspace(0, 97, 6), np.zeros((6, 2)), np.linspace(1, 1.3, 6)))
    motion = types.SimpleNamespace(cam_K=np.diag([800.0, 800, 1]), T_world_cam=np.eye(4), mode="video")
    for given, travels in ((True, None), (True, True), (True, False), (False, True)):
        Console({}).warning(remarks.turning_camera(turns, motion, given, travels))
    told = capsys.readouterr().err
    assert "--travels" in told and "--camera" in told and "Camera to" not in told and "Scene Camera" not in told


def test_faults_advise_options_and_no_menu(bridge, tmp_path, monkeypatch):
    """Of a camera that travels and zooms before anything is detected."""
    pytest.importorskip("pycolmap")
    blank_video(tmp_path / "v.mp4", 3)
    np.savez(tmp_path / "zoom.npz", cam_K=np.tile(np.diag([400.0, 400, 1]), (3, 1, 1)))
    fit = "fit", "v.mp4", "--travels", "-o", "m.npz"
    told = [bridge(*fit, "--camera", "zoom.npz")]
    monkeypatch.setitem(sys.modules, "pycolmap", None)
    told.append(bridge(*fit))
    assert [code for code, *_ in told] == [2, 4]
    for (_, _, err), words in zip(told, ("zooms", "COLMAP"), strict=True):
        assert len(err.splitlines()) == 1 and words in err and "Scene Camera" not in err and "Camera to" not in err and "preferences" not in err


def test_there_is_no_worker_on_the_command_line(monkeypatch):
    from bridge.cli import by_options
    from bridge.keypoints import apart, camera_path

    def full(prefix):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(apart, "passing_folder", full)
    with pytest.raises(LgdError) as caught:
        apart.Apart(None)
    for text in (camera_path.FAILED, caught.value.sentence()):
        assert "worker" in text and "worker" not in by_options(text)


def test_no_one_in_the_keypoints(bridge, tmp_path):
    keypoints(tmp_path / "k.npz", confidence=np.zeros((5, 17)))
    code, out, err = bridge("fit", "k.npz")
    assert code == 3 and out == "" and "No person" in err and "other keypoints" in err and "box" not in err


def test_nobody_found_in_footage_is_told_with_the_command_lines_options():
    from bridge import cli

    detect = (cli.places.BRIDGE / "keypoints" / "detect.py").read_text("utf-8")
    told = "Draw a box round the person, choose other frames, or use another detector"
    assert told in detect
    for text in (told, LgdError("no_person").sentence()):
        assert "Draw" not in cli.by_options(text) and "--box" in cli.by_options(text)


def test_a_defect_of_ours_names_its_log(bridge, tmp_path, monkeypatch):
    from bridge import handlers

    monkeypatch.setattr(handlers, "detect", lambda *_: 1 / 0)
    blank_video(tmp_path / "v.mp4", 3)
    code, _, err = bridge("detect", "v.mp4")
    assert code == 1 and "ZeroDivisionError" in err
    path = err.strip().rpartition(" ")[2].rstrip(".")
    assert "Traceback" in open(path + ("" if path.endswith(".log") else ".log")).read()


def test_people_of_a_keypoint_file_are_chosen_by_person(bridge, tmp_path):
    bad(bridge("fit", keypoints(tmp_path / "k.npz"), "--people", "2"), "--person all")


def test_several_people_do_not_replace_the_keypoints(bridge, tmp_path):
    kept = keypoints(tmp_path / "t_0.npz").read_bytes()
    bad(bridge("fit", "t_0.npz", "-o", "t.npz", "--person", "all"), "t_0.npz")
    assert (tmp_path / "t_0.npz").read_bytes() == kept


def test_a_rate_for_keypoints_that_have_one(bridge, tmp_path):
    keypoints(tmp_path / "k.npz")
    bad(bridge("fit", "k.npz", "--fps", "25"), "--fps", "k.npz")


def test_paths_that_no_file_can_have(bridge, tmp_path):
    bad(bridge("fit", "a" * 300 + ".npz"), "too long")
    if hasattr(os, "symlink"):
        (tmp_path / "loop").symlink_to(tmp_path / "loop")
        bad(bridge("detect", "loop/v.mp4"), "loop")


def test_a_name_that_begins_with_a_tilde_is_no_home_of_anybody(bridge, tmp_path):
    keypoints(tmp_path / "~k.npz", confidence=np.zeros((5, 17)))
    cv2.imencode(".png", np.zeros((48, 64, 3), np.uint8))[1].tofile(tmp_path / "~walk.png")
    assert bridge("fit", "~k.npz")[0] == bridge("detect", "~walk.png")[0] == 3
    bad(bridge("detect", "~nobody_at_all.mp4"), "~nobody_at_all")


def test_a_tilde_before_a_path_is_the_users_home(bridge, tmp_path, monkeypatch):
    (tmp_path / "home").mkdir()
    keypoints(tmp_path / "home" / "k.npz", confidence=np.zeros((5, 17)))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert bridge("fit", "~/k.npz")[0] == 3


@pytest.mark.parametrize("name, told", (("train", "--resume goes on"), ("fit", "nothing was written")))
def test_an_interrupt_says_what_is_left(monkeypatch, capsys, name, told):
    def interrupted(arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "run", interrupted)
    assert cli.main([name]) == 130
    assert told in capsys.readouterr().err


def test_an_option_that_is_none_is_told_with_its_command(bridge):
    bad(bridge("fit", "x.mp4", "--nonsense"), "--nonsense", "bridge fit --help")


def test_a_lens_that_is_none_is_told_before_anybody_is_looked_for(bridge, tmp_path):
    video = blank_video(tmp_path / "v.mp4")
    code, out, err = bridge("fit", video, "--focal", "3")
    assert code == 2 and "No lens has a focal length of 3 px" in err and "No person" not in err


def test_what_a_keypoint_file_says_otherwise_is_told(bridge, tmp_path):
    code, out, err = bridge("fit", keypoints(tmp_path / "k.npz"), "-o", "m.npz", "--size", "10,10")
    assert code == 0 and "not the 10 x 10 that were told" in err
    code, out, err = bridge("fit", tmp_path / "m.npz", "-o", "again.npz")
    assert code == 0 and "was estimated, and is taken for true" in err
    code, out, err = bridge("fit", tmp_path / "k.npz", "-o", "told.npz", "--focal", "900")
    assert code == 0 and "for true" not in err
    code, out, err = bridge("fit", tmp_path / "told.npz", "-o", "again.npz")
    assert code == 0 and "for true" not in err


def test_a_size_for_keypoints_that_tell_none(bridge, tmp_path):
    file = keypoints(tmp_path / "k.npz", image_size=None)
    bad(bridge("fit", file), "has no 'image_size'", "--size W,H")
    (tmp_path / "m.json").write_text(json.dumps([[{"x": 0.4 + k / 100, "y": k / 33} for k in range(33)]] * 5))
    bad(bridge("fit", tmp_path / "m.json"), "no size of the picture", "--size W,H")
    with np.load(file) as held:
        arrays = {name: held[name] for name in held.files if name not in ("fps", "frame_times")}
    np.savez(tmp_path / "bare.npz", **arrays)
    for told, rate in ((file, []), (tmp_path / "bare.npz", ["--fps", "12"])):
        code, out, err = bridge("fit", told, "-o", "m.npz", "--size", "640,480", *rate)
        assert code == 0, err
        with np.load(tmp_path / "m.npz") as motion:
            assert motion["image_size"].tolist() == [640, 480] and (not rate or abs(float(motion["mocap_framerate"]) - 12) < 1e-6)


def test_what_is_assumed_is_told_with_the_option_that_tells_it():
    from bridge.cli import by_options

    folder = cli.places.BRIDGE
    for text, file, option in (
        ("30 frames a second are taken.", "handlers.py", "--fps"),
        ("30 frames a second are assumed.", "keypoints/video.py", "--fps"),
        ("the smallest usual one that holds all points.", "keypoints/importers.py", "--size"),
    ):
        assert text in (folder / file).read_text("utf-8") and option in by_options(text)


def test_a_result_is_as_open_to_others_as_its_folder(tmp_path, monkeypatch):
    """Though it was born in a private temporary folder: on Windows, where `chmod` says nothing of who reads, what is moved out of one stays private,
    and file systems without modes (Windows' drives under WSL) refuse it."""
    from bridge.commands import _publish

    def refuses(path, mode):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("pathlib.Path.chmod", refuses)
    (tmp_path / "ordinary").touch()
    made = tmp_path / "made"
    os.close(os.open(made, os.O_CREAT | os.O_WRONLY, 0o600))
    made.write_text("result")
    _publish([(made, tmp_path / "motion.npz")])
    made.unlink()
    assert (tmp_path / "motion.npz").read_text() == "result" and len(list(tmp_path.iterdir())) == 2
    assert (tmp_path / "motion.npz").stat().st_mode == (tmp_path / "ordinary").stat().st_mode


def test_a_name_as_long_as_names_can_be(tmp_path):
    from bridge.arrays import load_arrays, save_arrays
    from bridge.commands import _publish

    target = tmp_path / ("m" * 251 + ".npz")
    save_arrays(target, {"a": np.zeros(3)})
    target.rename(tmp_path / "made")
    _publish([(tmp_path / "made", target)])
    assert load_arrays(target)["a"].shape == (3,)
