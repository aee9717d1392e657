# SPDX-License-Identifier: GPL-3.0-or-later
"""A camera that travels: its path from the background, the path's size, place and attitude from the person."""

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

np = pytest.importorskip("numpy")
torch = pytest.importorskip("torch")
cv2 = pytest.importorskip("cv2")

from filmed_room import BESIDE, FOCAL, FRAMES, SIZE, TURNING, WALK, K, T, keypoints  # noqa: E402
from scipy.spatial.transform import Rotation  # noqa: E402

from bridge import protocol  # noqa: E402
from bridge.errors import LgdError  # noqa: E402
from bridge.keypoints import camera_path  # noqa: E402
from bridge.keypoints.apart import Apart  # noqa: E402
from bridge.keypoints.camera_path import (  # noqa: E402
    CameraPath,
    Reconstruction,
    Untold,
    _jumps_about,
    _path,
    _write_pictures,
    find_camera_path,
)
from bridge.keypoints.colmap import _travels  # noqa: E402
from bridge.train.room import looking  # noqa: E402


def crowd(path):
    """Keypoints of who walks along, as if they filled the middle of the picture from the floor to 1.7 m."""
    spread = np.stack((np.linspace(-0.3, 0.3, 17), np.zeros(17), np.linspace(0, 1.7, 17)), -1)
    return keypoints(path, WALK[:, None] + spread)


def filmed(room, path, folder):
    folder.mkdir()
    for k, world in enumerate(path):
        assert cv2.imwrite(str(folder / f"{k:04d}.png"), room.picture(K, world, SIZE).astype(np.uint8))
    return {"path": str(folder), "fps": 30.0}


@pytest.fixture(scope="module")
def beside(room, tmp_path_factory):
    return filmed(room, BESIDE, tmp_path_factory.mktemp("clips") / "beside")


def rigid(found, true):
    """How far found (F, 4, 4) turns off, in degrees, and goes off, in parts of the way, when laid on the true path."""
    turns = Rotation.from_matrix(true[:, :3, :3]) * Rotation.from_matrix(found[:, :3, :3]).inv()
    off = np.degrees((turns.mean().inv() * turns).magnitude().max())
    here, there = turns.mean().apply(found[:, :3, 3]), true[:, :3, 3]
    here, there = here - here.mean(0), there - there.mean(0)
    return off, np.abs(here * (here * there).sum() / (here**2).sum() - there).max() / np.ptp(there, axis=0).max()


def test_the_background_tells_the_path(beside):
    pytest.importorskip("pycolmap")
    stages = []
    path = find_camera_path(beside, crowd(BESIDE), on_progress=lambda stage, done, total: stages.append(stage))
    turned, moved = rigid(path.world, BESIDE)
    assert turned < 0.5 and moved < 0.02 and abs(path.focal / FOCAL - 1) < 0.08 and path.error < 1 and len(path.points) > 100
    assert set(stages) == {"background", "camera"}
    again = find_camera_path(beside, crowd(BESIDE))
    assert np.array_equal(again.world, path.world) and again.focal == path.focal
    told = find_camera_path(beside, crowd(BESIDE), K, np.zeros(5))
    assert told.focal == pytest.approx(FOCAL) and rigid(told.world, BESIDE)[0] < 0.5


def test_a_camera_that_does_not_travel_has_no_path(room, tmp_path):
    pytest.importorskip("pycolmap")
    with pytest.raises(Untold):
        find_camera_path(filmed(room, TURNING, tmp_path / "turning"), crowd(TURNING))


def test_what_cannot_be_looked_at_is_refused(beside, monkeypatch, tmp_path):
    pytest.importorskip("pycolmap")
    with pytest.raises(LgdError, match="40 frames and the footage 45") as fault:
        find_camera_path(beside, crowd(BESIDE).cut(0, 40))
    assert fault.value.code == "bad_input"
    with pytest.raises(LgdError, match="44 frames and the footage 45"):  # of pictures one that is there is one that is meant
        find_camera_path(beside, crowd(BESIDE).cut(0, 44))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for later in (0.0, 2.5):  # while pictures are written, and while COLMAP is at work
        end = time.monotonic() + later
        with pytest.raises(LgdError) as fault:
            find_camera_path(beside, crowd(BESIDE), should_stop=lambda: time.monotonic() > end)  # noqa: B023
        assert fault.value.code == "cancelled" and time.monotonic() < end + 1
    while list(tmp_path.iterdir()) and time.monotonic() < end + 30:
        time.sleep(0.1)
    assert not list(tmp_path.iterdir())
    with pytest.raises(LgdError, match="640 x 360"):
        find_camera_path(beside, dataclasses.replace(crowd(BESIDE), image_size=(320, 180)))
    with monkeypatch.context() as full:
        full.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(free=5e6))
        with pytest.raises(LgdError, match="has 5 MB free") as fault:
            find_camera_path(beside, crowd(BESIDE))
    assert fault.value.code == "disk"
    monkeypatch.setitem(__import__("sys").modules, "pycolmap", None)
    with pytest.raises(LgdError, match="COLMAP") as fault:
        find_camera_path(beside, crowd(BESIDE))
    assert fault.value.code == "setup_incomplete"


def test_a_temporary_folder_that_is_gone_is_told_as_that(beside, monkeypatch, tmp_path):
    pytest.importorskip("pycolmap")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(LgdError, match="No temporary folder") as fault:
        find_camera_path(beside, crowd(BESIDE))
    assert fault.value.code == "disk"


def test_a_short_walk_in_a_long_clip_is_looked_for():
    """Of all pairs too few differ, but of those in the walk many."""
    pairs = np.array([(k, k + apart) for k in range(0, 1200, 2) for apart in (2, 4, 6, 8, 10, 12)])
    walk = (pairs[:, 0] >= 600) & (pairs[:, 0] < 640)
    assert walk.mean() < 0.04 and _travels(pairs, walk)
    assert not _travels(pairs, np.arange(len(pairs)) % 50 == 0) and not _travels(pairs[:0], walk[:0])


def test_long_clips_are_looked_at_less_often_and_none_for_hours(beside, monkeypatch):
    long = lambda frames, fps: dataclasses.replace(crowd(BESIDE), keypoints=np.zeros((1, frames, 17, 2)), confidence=np.zeros((1, frames, 17)), fps=fps)  # noqa: E731
    with pytest.raises(Untold, match="at most 100 s, and this one has 200"), Apart(None) as apart:
        _write_pictures(beside, long(6000, 30.0), lambda *_: None, apart)
    monkeypatch.setattr(camera_path, "MOST", 20)
    monkeypatch.setattr(camera_path, "LEAST", 5)
    paused = crowd(BESIDE)
    paused.frame_times = paused.times() + 3600.0 * (np.arange(paused.frames) >= 20)
    for told in (crowd(BESIDE), paused):
        with Apart(None) as apart:
            _, looked = _write_pictures(beside, told, lambda *_: None, apart)
        assert looked == [*range(0, 45, 3), 44]


def test_what_ends_colmap_ends_the_search_alone(beside, monkeypatch):
    """It ends its process where it can write no more, say."""
    pytest.importorskip("pycolmap")
    from bridge.keypoints import apart

    monkeypatch.setattr(apart, "START", "import os; os.abort()")
    with pytest.raises(Untold, match="COLMAP, which looks for it, failed"):
        find_camera_path(beside, crowd(BESIDE))
    with monkeypatch.context() as full, pytest.raises(Untold, match="failed"):
        full.setattr(apart.sys, "executable", "/nowhere/python")  # as where the system starts no more processes
        find_camera_path(beside, crowd(BESIDE))
    monkeypatch.setattr(apart, "START", apart.START.replace("os.abort", "print"))  # ends well, with nothing done
    with pytest.raises(Untold, match="failed"):
        find_camera_path(beside, crowd(BESIDE))


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes as Linux tells of them")
def test_steps_do_not_outlive_the_process_that_asks_for_them(tmp_path):
    code = """
import sys
from bridge.keypoints import apart, colmap
apart.START = apart.START.replace("run()", "from bridge.keypoints import colmap; import time; colmap.sleep = lambda place: time.sleep(60); run()")
with apart.Apart(None) as steps:
    steps("sleep", {}, {}, on_progress=lambda ended: print("started", flush=True))
"""
    asking = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2], env={**os.environ, "TMPDIR": str(tmp_path)})
    asking.stdout.readline()
    time.sleep(1)

    def children():
        fields = [stat.read_text().rsplit(")", 1)[1].split() for stat in Path("/proc").glob("[0-9]*/stat") if _there(stat)]
        return sum(fields[1] == str(asking.pid) for fields in fields)

    def under_apart():
        return sum(b"bridge.keypoints.apart" in line.read_bytes() and str(tmp_path).encode() in (line.parent / "environ").read_bytes()
                   for line in Path("/proc").glob("[0-9]*/cmdline") if _there(line))  # fmt: skip

    assert children() == 2 == under_apart()
    asking.kill()
    asking.wait()
    asking.stdout.close()
    end = time.monotonic() + 20
    while under_apart() and time.monotonic() < end:
        time.sleep(0.1)
    assert not under_apart() and not list(tmp_path.glob("lgd-path-*"))


def test_steps_are_as_isolated_as_the_worker(tmp_path):
    """A script that the user calls json.py, in the folder where a worker was started, is not taken for Python's own."""
    (tmp_path / "json.py").write_text("raise SystemExit(3)")
    code = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from bridge.keypoints import apart
apart.START = apart.START.replace("run()", "from bridge.keypoints import colmap; colmap.nothing = lambda place: dict(); run()")
with apart.Apart(None) as steps:
    print(steps("nothing", dict()))
"""
    told = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, cwd=tmp_path, text=True)
    assert told.stdout.strip() == "[{}]", told.stderr


def test_a_step_that_raises_ends_without_a_crash(capfd):
    """It tells why: a library that its package lacks, say."""
    with Apart(None) as steps:
        assert steps("compare", {"seen": "by"}) == [None]
    told = capfd.readouterr().err
    assert "TypeError" in told and "Fatal Python error" not in told


def _there(file):
    try:
        return bool(file.read_bytes())
    except OSError:
        return False


def reconstructed(path, placed):
    """As COLMAP would have it: the pictures `placed` of those along path, and points all over the room."""
    frames = np.array(placed)
    points = np.random.default_rng(3).uniform((-3, 0, 0), (3, 4, 2), (200, 3))
    return Reconstruction(FOCAL, 0.5, 9000, frames, path[frames], points)


def test_a_camera_that_stays_is_told_as_one_that_may():
    every = list(range(FRAMES))
    few = reconstructed(BESIDE, every)
    few = dataclasses.replace(few, points=few.points[:20])
    with pytest.raises(Untold, match="or the camera stays where it is"):
        _path(few, crowd(BESIDE), every, 1.0)


def test_what_is_left_out_is_told_by_the_pictures_that_are_there():
    every = np.arange(FRAMES)
    later = T + np.where(every < 20, 0, 1.5)  # nothing was filmed for a while
    paused, slow = (dataclasses.replace(crowd(BESIDE), frame_times=times) for times in (later, T * 30))
    for seen in (paused, slow):
        assert _path(reconstructed(BESIDE, every), seen, list(every), 1.0).world[20] == pytest.approx(BESIDE[20], abs=1e-6)
    with pytest.raises(Untold, match="from 0.6 to 2.2 s"):
        _path(reconstructed(BESIDE, np.delete(every, 20)), paused, list(every), 1.0)
    at_end = every[: FRAMES - 5]
    with pytest.raises(Untold, match="from 39.0 to 44.0 s"):
        _path(reconstructed(BESIDE, at_end[2:]), slow, list(every), 1.0)
    assert _path(reconstructed(BESIDE, every[1:-1]), crowd(BESIDE), list(every), 1.0).world[0] == pytest.approx(BESIDE[1], abs=1e-6)


def test_a_slow_camera_does_not_jump_about():
    """Its steps from picture to picture are hardly larger than the errors of its places, some tenths of a millimetre for each metre that things are away."""
    every, errors = list(range(FRAMES)), np.random.default_rng(4).normal(0, 0.0015, (FRAMES, 3))
    walked = lambda speed, times: np.stack([looking(np.array([speed * t, -4, 1.5]) + times * off, np.array([0.2, 0, 0.9])) for t, off in zip(T, errors, strict=True)])  # noqa: E731
    slow, wrong = walked(0.25, 1), walked(0.25, 80)
    assert not _jumps_about(reconstructed(slow, every), T) and _jumps_about(reconstructed(wrong, every), T)


def test_halves_that_do_not_fit_together_are_no_path():
    """Mapping may end in two halves of two sizes, with less error than the right end: it was taken, and then refused for its one jump."""
    halves = BESIDE.copy()
    halves[FRAMES // 2 :, :3, 3] = halves[FRAMES // 2, :3, 3] + 0.2 * (halves[FRAMES // 2 :, :3, 3] - halves[FRAMES // 2, :3, 3]) + (0.6, 0, 0)
    every = list(range(FRAMES))
    assert _jumps_about(reconstructed(halves, every), T) and not _jumps_about(reconstructed(BESIDE, every), T)
    starts = BESIDE.copy()  # who stands for a second, and then walks
    starts[:, :3, 3] = BESIDE[np.maximum(np.arange(FRAMES) - FRAMES // 2, 0), :3, 3] + np.random.default_rng(0).normal(0, 3e-4, (FRAMES, 3))
    assert not _jumps_about(reconstructed(starts, every), T)


@pytest.mark.parametrize("rate, count", [(60, 43), (120, 43), (30, 44), (15, 45)])
def test_the_last_picture_is_looked_at_where_not_every_one_is(beside, rate, count):
    """The camera would stand in those past the last one that is, for up to a 30th of a second, while the person goes on."""
    seen = dataclasses.replace(crowd(BESIDE), fps=float(rate)).cut(0, count)
    with Apart(None) as apart:
        _, looked = _write_pictures({**beside, "frames": [0, count]}, seen, lambda *_: None, apart)
    step = rate // 15
    assert looked == sorted({*range(0, count, step), count - 1})


RIGHT = (FOCAL, 0.5, 9000)


@pytest.mark.parametrize("told", [False, True], ids=["sought", "told"])
@pytest.mark.parametrize(
    "ends, taken",
    [
        ([(2.6 * FOCAL, 0.8, 12000), (0.25 * FOCAL, 0.45, 5000), RIGHT], 2),  # none misses by less through a lens that may be
        ([(1.45 * FOCAL, 0.6, 9000), (1.45 * FOCAL, 0.6, 9000), RIGHT], 2),
        ([RIGHT, (FOCAL, 0.3, 4000), None], 0),  # one that leaves half of it out
        ([RIGHT, (FOCAL, 0.3, 1), (1.01 * FOCAL, 0.5, 9000)], 0),  # one that jumps about
        ([(FOCAL, 0.95, 9000), (1.01 * FOCAL, 0.93, 9000), None], 0),  # grain: two searches end in the same
        ([(FOCAL, 0.95, 9000), (1.3 * FOCAL, 0.93, 9000), None], None),
        ([(FOCAL, 0.5, 1), (FOCAL, 0.5, 1), None], "jumps"),
        ([(FOCAL, 1.6, 9000), (FOCAL, 1.6, 9000), (FOCAL, 1.6, 9000)], None),
        ([None, (FOCAL, 0.95, 9000), None], None),
        ([(FOCAL, 0.6, 9000), (2 * FOCAL, 0.4, 9000), None], "told"),
    ],
)
def test_of_several_ends_of_the_search_the_right_one_is_taken(beside, monkeypatch, told, ends, taken):
    """Mapping ends in wrong ones, too: the camera's path is bent there, by metres."""
    pytest.importorskip("pycolmap")

    asked = {}

    def searched(apart, seen_by, free, progress):
        asked.update(zip([float(lens[1].split(",")[0]) for lens in seen_by], free, strict=True))
        return [end and Reconstruction(*end, np.zeros(n), np.zeros(0), np.zeros(0)) for n, end in enumerate(ends)]

    monkeypatch.setattr(camera_path, "_searched", searched)
    monkeypatch.setattr(camera_path, "_jumps_about", lambda found, times: found.observations == 1)
    monkeypatch.setattr(camera_path, "_path", lambda found, *rest: CameraPath(np.eye(4), np.zeros((len(found.frames), 3)), FOCAL, 0.5))
    lens = K if told else None
    if taken == "jumps":
        with pytest.raises(Untold, match="no path of a camera"):
            find_camera_path(beside, crowd(BESIDE), lens)
    elif taken is None:
        with pytest.raises(Untold, match="does not fit together" + (".*lens" if told else "$")):
            find_camera_path(beside, crowd(BESIDE), lens)
    else:
        path = find_camera_path(beside, crowd(BESIDE), lens)
        doubted = taken == "told" and told  # another lens fits better than the one that was told
        assert len(path.points) == (taken if taken != "told" else not told) and path.rather == (pytest.approx(2 * FOCAL) if doubted else None)
    assert len(asked) == 3 and sorted(asked.values()) == [not told, True, True]
    monkeypatch.setattr(camera_path, "_searched", lambda *rest: [None] * 3)
    with pytest.raises(Untold, match="too little of it can be followed, or it does not shift"):
        find_camera_path(beside, crowd(BESIDE), lens)


SEARCHES = """
import sys
from bridge import cli, handlers, places
from bridge.keypoints import apart

apart.START = apart.START.replace("run()", "from bridge.keypoints import colmap; import time; colmap.sleep = lambda place: time.sleep(60); run()")

def fit(request, task):
    with apart.Apart(task.should_stop) as steps:
        (steps.place / "pictures").mkdir()
        task.progress("camera", 0, 0)
        steps("sleep", {{}})

handlers.fit = handlers.JOBS["fit"] = fit
sys.argv[1:] = {arguments}
exec(open("bridge/__main__.py").read())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT to send there")
@pytest.mark.parametrize("way", ["command", "worker"])
def test_a_process_that_ends_during_the_search_is_not_held_and_leaves_nothing(tmp_path, way):
    (tmp_path / "temporary").mkdir()
    (tmp_path / "walk.mp4").touch()
    arguments = ["fit", str(tmp_path / "walk.mp4"), "--travels", "-o", str(tmp_path / "m.npz")] if way == "command" else ["serve"]
    process = subprocess.Popen(
        [sys.executable, "-c", SEARCHES.format(arguments=arguments)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        cwd=Path(__file__).parents[2], env={**os.environ, "TMPDIR": str(tmp_path / "temporary")},
    )  # fmt: skip
    try:
        if way == "worker":
            process.stdout.readline()  # ready
            process.stdin.write(protocol.encode(protocol.message("fit", 1, keypoints="k", out=str(tmp_path))))
            process.stdin.flush()
        assert b"camera" in (process.stdout if way == "worker" else process.stderr).readline()
        assert list((tmp_path / "temporary").glob("lgd-path-*/pictures"))
        time.sleep(0.5)  # by now it is waited for
        if way == "worker":
            process.stdin.close()
        else:
            process.send_signal(signal.SIGINT)
        assert process.wait(15) == (0 if way == "worker" else 130)
    finally:
        process.kill()
        process.stdout.close()
        process.stderr.close()
    assert not list((tmp_path / "temporary").iterdir())
