# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line: exit codes, one sentence for what is wrong, and nothing left behind on failure."""

import os
import signal
import subprocess
import sys
import time
import types

import pytest
from worker_desk import ROOT

np = pytest.importorskip("numpy")
cv2 = pytest.importorskip("cv2", reason="opencv-python is not installed")

from bridge import cli, models  # noqa: E402
from bridge.errors import LgdError  # noqa: E402
from bridge.keypoints.tracks import Keypoints  # noqa: E402


@pytest.fixture
def bridge(monkeypatch, capsys, tmp_path):
    """Run a command in an own folder: exit code, standard output, standard error; new files on failure are refused."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LGD_HOME", str(tmp_path.parent / f"{tmp_path.name}-home"))
    monkeypatch.setattr(cli, "_claim_stdout", lambda: sys.stdout)

    def run(*arguments):
        before = set(tmp_path.rglob("*"))
        code = cli.main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        if code:
            assert set(tmp_path.rglob("*")) == before, "a failure left something behind"
        assert "Traceback" not in err
        return code, out, err

    return run


def keypoints(path, **change):
    arrays = {
        "keypoints": np.random.default_rng(0).uniform(0, 400, (5, 17, 2)).astype(np.float32),
        "confidence": np.full((5, 17), 0.9, np.float32),
        "layout": "coco17",
        "image_size": np.array([640, 480]),
        "fps": 30.0,
        **change,
    }
    np.savez(path, **{key: entry for key, entry in arrays.items() if entry is not None})
    return path


def blank_video(path, frames=30):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 25.0, (320, 240))
    for _ in range(frames):
        writer.write(np.full((240, 320, 3), 90, np.uint8))
    writer.release()
    return path


def bad(result, *words):
    code, out, err = result
    assert code == 2 and out == "", err
    lines = [line for line in err.splitlines() if line and not line.startswith(("read", "detect"))]
    assert len(lines) == 1, err
    for word in words:
        assert word in lines[0], err


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


def test_detect_refuses_what_it_would_not_use(bridge, tmp_path):
    keypoints(tmp_path / "k.npz")
    bad(bridge("detect", "k.npz"), "`fit`")
    (tmp_path / "shot.mp4").write_bytes(b"not looked at")
    for command in ("detect", "fit"):
        bad(bridge(command, "shot.mp4", "--fps", "25"), "folder of images")
    bad(bridge("fit", "shot.mp4", "--size", "640,480"), "--size")


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


def test_there_is_no_worker_on_the_command_line(monkeypatch):
    from bridge.cli import by_options
    from bridge.errors import LgdError
    from bridge.keypoints import apart, camera_path

    def full(prefix):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(apart, "passing_folder", full)
    with pytest.raises(LgdError) as caught:
        apart.Apart(None)
    for text in (camera_path.FAILED, caught.value.sentence()):
        assert "worker" in text and "worker" not in by_options(text)


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


def test_no_one_in_the_keypoints(bridge, tmp_path):
    keypoints(tmp_path / "k.npz", confidence=np.zeros((5, 17)))
    code, out, err = bridge("fit", "k.npz")
    assert code == 3 and out == "" and "No person" in err


def test_no_one_in_the_footage(bridge, tmp_path):
    pytest.importorskip("mediapipe", reason="mediapipe is not installed")
    blank_video(tmp_path / "v.mp4", 3)
    code, out, err = bridge("detect", "v.mp4")
    assert code == 3 and out == "" and "No person" in err


def test_a_defect_of_ours_names_its_log(bridge, tmp_path, monkeypatch):
    from bridge import handlers

    monkeypatch.setattr(handlers, "detect", lambda *_: 1 / 0)
    blank_video(tmp_path / "v.mp4", 3)
    code, _, err = bridge("detect", "v.mp4")
    assert code == 1 and "ZeroDivisionError" in err
    path = err.strip().rpartition(" ")[2].rstrip(".")
    assert "Traceback" in open(path + ("" if path.endswith(".log") else ".log")).read()


def command(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "bridge", *map(str, arguments)],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False, **options,
    )  # fmt: skip


def test_results_alone_reach_standard_output():
    code = "from bridge import cli; out = cli._claim_stdout(); print('stray'); print('result', file=out); out.flush()"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout.split(), done.stderr.split()) == (["result"], ["stray"])


def test_bare_on_a_terminal_prints_help():
    pty = pytest.importorskip("pty")
    master, slave = pty.openpty()
    done = command(stdin=slave)
    os.close(slave)
    os.close(master)
    assert done.returncode == 0 and "selftest" in done.stdout


def test_bare_on_a_pipe_is_the_worker():
    done = command(input="")
    assert done.returncode == 0 and '"ready"' in done.stdout and done.stderr == ""


def test_train_and_evaluate_need_a_checkout(tmp_path):
    package = tmp_path / "bridge"
    package.mkdir()
    for name in ("__init__", "__main__", "cli", "errors", "faults", "models", "places"):
        (package / f"{name}.py").write_bytes((ROOT / "bridge" / f"{name}.py").read_bytes())
    for name in ("train", "evaluate", "record"):
        done = subprocess.run(
            [sys.executable, "-m", "bridge", name, "--mode", "paper"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 2 and done.stdout == ""
        assert "checkout" in done.stderr and len(done.stderr.splitlines()) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT to send there")
@pytest.mark.parametrize("name", ["SIGINT", "SIGHUP"])
def test_ctrl_c_and_a_closed_terminal(tmp_path, name):
    pytest.importorskip("mediapipe", reason="mediapipe is not installed")
    blank_video(tmp_path / "v.mp4", 100)
    process = subprocess.Popen(
        [sys.executable, "-m", "bridge", "detect", str(tmp_path / "v.mp4"), "-o", str(tmp_path / "k.npz")],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
    )  # fmt: skip
    end = time.monotonic() + 30
    while "10/100" not in process.stderr.readline() and time.monotonic() < end:
        pass
    process.send_signal(getattr(signal, name))
    out, err = process.communicate(timeout=20)
    assert process.returncode == 130 and out == "" and "Traceback" not in err
    assert "Cancelled" in err
    assert [path.name for path in tmp_path.iterdir()] == ["v.mp4"]


def test_an_output_never_replaces_an_input(tmp_path):
    """`fit k.npz -o k.npz` is refused before anything is read, whatever way the name is spelled."""
    from bridge.commands import output_file
    from bridge.errors import LgdError

    file = tmp_path / "k.npz"
    file.write_bytes(b"kept")
    with pytest.raises(LgdError) as caught:
        output_file(tmp_path / "." / "k.npz", str(file))
    assert caught.value.code == "bad_input" and file.read_bytes() == b"kept"
    assert output_file(tmp_path / "m.npz", str(file)).name == "m.npz"
    for name in ("t_0.npz", "t.npz"):
        with pytest.raises(LgdError, match=name):
            output_file(tmp_path / "t.npz", str(tmp_path / name), numbered=True)
    for name in ("t_a.npz", "at_0.npz", "t_0.json"):
        assert output_file(tmp_path / "t.npz", str(tmp_path / name), numbered=True)


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


def test_pictures_with_a_few_json_files_beside_them_are_pictures(tmp_path):
    from bridge.commands import is_keypoints

    for name in ("1.png", "2.png", "meta.json"):
        (tmp_path / name).touch()
    assert not is_keypoints(str(tmp_path))
    (tmp_path / "2_keypoints.json").touch()
    assert is_keypoints(str(tmp_path))


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no file that is always full")
def test_results_stay_where_nobody_reads_the_figures(tmp_path):
    from bridge.commands import _say

    with open("/dev/full", "w") as full:
        _say(["a figure"], full)
        with pytest.raises(OSError):
            full.close()


@pytest.mark.parametrize("arguments", (("train", "--mode", "x"), ("train", "--threads", "0"), ("evaluate", "--subset", "none"), ("record", "--clips", "3")))
def test_options_of_train_and_evaluate_are_refused_in_one_sentence(arguments):
    pytest.importorskip("torch", reason="torch is not installed")
    done = command(*arguments)
    assert done.returncode == 2 and done.stdout == ""
    assert len(done.stderr.splitlines()) == 1 and f"bridge {arguments[0]} --help" in done.stderr


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
