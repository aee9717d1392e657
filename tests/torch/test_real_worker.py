# SPDX-License-Identifier: GPL-3.0-or-later
"""The real worker behind the add-on's session: detect, fit, cancel, and the command line's same results."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed")

from bridge.keypoints.tracks import Keypoints
from bridge.lgd.checkpoint import available_weights
from bridge.motion import Motion
from bridge.selftest import FOCAL, SIZE, _standing
from lgd_blender_addon import _bridge
from lgd_blender_addon.session import Session
from lgd_blender_addon.worker.job import State

ROOT = Path(__file__).resolve().parents[2]
CLIP = Path(os.environ.get("LGD_DATA", ROOT.parent / "shared" / "data")) / "footage" / "squats.mp4"

needs_weights = pytest.mark.skipif(not available_weights(), reason="the weights are not there")
needs_clip = pytest.mark.skipif(not CLIP.is_file(), reason="LGD_DATA has no footage/squats.mp4")


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    session = Session()
    session.configure(
        sys.executable, _bridge.FOLDER, tmp_path_factory.mktemp("user"), {"OMP_NUM_THREADS": "1"}
    )
    yield session
    session.shutdown(wait=5.0)


@pytest.fixture(scope="module")
def standing(tmp_path_factory):
    points, confidence = _standing()
    path = tmp_path_factory.mktemp("keypoints") / "standing.npz"
    Keypoints(points[None], confidence[None], "coco17", SIZE, fps=30.0).save(path)
    return path


def finish(session, job, seconds=120.0):
    events, end = [], time.monotonic() + seconds
    while not job.over:
        assert time.monotonic() < end, (job.state, job.stage)
        events += [event for _, event in session.pump()]
        time.sleep(0.01)
    return events


def test_describe_body(session):
    job = session.start("describe_body", {"body": None})
    finish(session, job)
    assert job.state is State.DONE, job.error
    with np.load(job.result["file"], allow_pickle=False) as body:
        assert body["J_template"].shape == (24, 3)


@needs_weights
def test_fit_and_the_command_line_agree(session, standing, tmp_path):
    job = session.start("fit", {"keypoints": str(standing), "focal": FOCAL, "device": "cpu", "plant_feet": True})
    finish(session, job)
    assert job.state is State.DONE, job.error
    motion = Motion.load(job.result["motions"][0])
    assert motion.frames == 8 and np.isfinite(motion.poses).all()
    target = tmp_path / "motion.npz"
    done = subprocess.run(
        [sys.executable, "-m", "bridge", "fit", str(standing), "-o", str(target), "--focal", str(FOCAL), "--device", "cpu", "--plant-feet"],
        cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert str(target) in done.stdout and "reprojection" in done.stdout
    again = Motion.load(target)
    for name in ("poses", "betas", "trans", "joints"):
        assert np.array_equal(getattr(motion, name), getattr(again, name)), name
    assert motion.feet_planted and again.feet_planted


@needs_weights
def test_weights_of_ones_own(session, standing, tmp_path):
    """They take the place of those that ship, name themselves in the result, and are read anew when they have changed."""
    import torch

    from bridge.lgd.checkpoint import FOLDER

    saved, own, seen = torch.load(FOLDER / "video.pt", weights_only=True), tmp_path / "mine.pt", {}
    matrices = {name: w for name, w in saved["weights"].items() if w.is_floating_point()}
    for part in (1.0, 0.9):
        saved["weights"] |= {name: part * w for name, w in matrices.items()}
        torch.save(saved, own)
        job = session.start("fit", {"keypoints": str(standing), "weights": str(own), "focal": FOCAL, "device": "cpu"})
        finish(session, job)
        assert job.state is State.DONE, job.error
        motion = Motion.load(job.result["motions"][0])
        assert motion.mode == "video" and motion.weights.startswith("mine-")
        seen[motion.weights] = motion.poses
    job = session.start("fit", {"keypoints": str(standing), "focal": FOCAL, "device": "cpu"})
    finish(session, job)
    first, second = seen.values()
    assert np.array_equal(first, Motion.load(job.result["motions"][0]).poses) and not np.allclose(first, second, atol=0.01)


@needs_weights
def test_a_trace_of_the_descent(session, standing):
    if "paper" not in available_weights():
        pytest.skip("the paper mode's weights are not there")
    job = session.start("fit", {"keypoints": str(standing), "mode": "paper", "trace": True, "device": "cpu"})
    finish(session, job)
    assert job.state is State.DONE, job.error
    with np.load(job.result["traces"][0], allow_pickle=False) as trace:
        assert trace.files


def test_no_person_is_told(session, tmp_path):
    Keypoints(np.zeros((1, 4, 17, 2)), np.zeros((1, 4, 17)), "coco17", SIZE, fps=30.0).save(
        tmp_path / "k.npz"
    )
    job = session.start("fit", {"keypoints": str(tmp_path / "k.npz")})
    finish(session, job)
    assert job.error.code == "no_person"


@needs_clip
def test_detect_streams_and_cancels(session):
    pytest.importorskip("mediapipe", reason="mediapipe is not installed")
    job = session.start("detect", {"source": {"path": str(CLIP), "frames": [0, 12]}})
    events = finish(session, job)
    assert job.state is State.DONE, job.error
    frames = [event for event in events if event["type"] == "keypoints"]
    assert [event["frame"] for event in frames] == list(range(12))
    found = Keypoints.load(job.result["keypoints"])
    assert found.frames == 12 and frames[0]["image_size"] == list(found.image_size)
    assert frames[0]["layout"] == found.layout == job.result["layout"]
    pid = session.worker_pid
    job = session.start("detect", {"source": {"path": str(CLIP)}})
    while not job.done:
        session.pump()
        time.sleep(0.01)
    start = time.monotonic()
    session.cancel(job)
    assert job.state is State.CANCELLED and time.monotonic() - start < 1.0
    body = session.start("describe_body", {})
    finish(session, body)
    assert body.state is State.DONE and session.worker_pid == pid


@needs_weights
def test_of_several_people_each_keeps_the_shape_that_is_told(session, tmp_path):
    points, confidence = _standing()
    path = tmp_path / "two.npz"
    Keypoints(np.stack([points, points + [400.0, 0.0]]), np.stack([confidence, 0.9 * confidence]), "coco17", SIZE, fps=30.0).save(path)
    told = [0.5, -0.25, *[0.0] * 8]
    for betas, kept in (([None, told], (False, True)), ([told], (True, False))):
        job = session.start("fit", {"keypoints": str(path), "person": [0, 1], "focal": FOCAL, "betas": betas, "device": "cpu"})
        finish(session, job)
        assert job.state is State.DONE, job.error
        assert tuple(np.allclose(Motion.load(file).betas, told, atol=1e-6) for file in job.result["motions"]) == kept
