# SPDX-License-Identifier: GPL-3.0-or-later
"""`bridge evaluate --sections waist`, on a desk and a signer of our own making."""

import sys
import types

import numpy as np
import pytest
import torch
from test_fitter import FOCAL, waving

from bridge.errors import LgdError
from bridge.keypoints.formats import LAYOUTS
from bridge.lgd.fitter import FitOptions, fit
from bridge.rotations import exp_so3
from bridge.train.evaluate import waist
from bridge.train.evaluate.rows import Networks

cv2 = pytest.importorskip("cv2")

NAMES = LAYOUTS["blazepose33"].names
LENS = np.array([[700.0, 0, 640], [0, 700, 360], [0, 0, 1]])
TURNS = (0.0, 0.5, -0.6)  # of three cameras about the person, rad; the last one stands on its side
SIDEWAYS = np.array([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]])


@pytest.fixture(scope="module")
def body():
    """Points (F, 33, 3) m of a body in the first camera's frame, 3 m away; NaN where there is none."""
    return fit(waving(24, layout="blazepose33")[0], FitOptions(mode="video", focal=FOCAL, device="cpu"))[0].keypoints_3d


def desk(folder, points):
    recording = folder / "recordings" / "recording_1" / "HOLISTIC"
    recording.mkdir(parents=True)
    centre, rows, cameras = np.nanmean(points, (0, 1)), [], []
    for c, turn in enumerate(TURNS):
        seen_by = exp_so3(torch.tensor([0.0, turn, 0.0])).double().numpy()
        shift = centre - seen_by @ centre
        if c == 2:
            seen_by, shift = SIDEWAYS @ seen_by, SIDEWAYS @ shift
        local = points @ seen_by.T + shift
        pixels = (local / local[..., 2:]) @ LENS.T
        for frame, point in zip(*np.nonzero(np.isfinite(pixels[..., 0])), strict=True):
            rows.append((frame, c, frame, frame / 30, point, *pixels[frame, point, :2], np.nan, np.nan))
        matrix = lambda a: "[" + ", ".join("[" + ", ".join(map(repr, row)) + "]" for row in a.tolist()) + "]"  # noqa: E731
        cameras.append(
            f"[cameras.{c}]\nrotation_count = {int(c == 2)}\nsize = [1280, 720]\nmatrix = {matrix(LENS)}\n"
            f"distortions = [0.0, 0.0, 0.0, 0.0, 0.0]\nrotation = {matrix(seen_by)}\ntranslation = {shift.tolist()}\n"
        )
    np.savetxt(recording / "xy_HOLISTIC.csv", rows, delimiter=",", header="as caliscope has it")
    (folder / "camera_array.toml").write_text("\n".join(cameras))


def test_arms_are_judged_by_what_the_cameras_triangulate_to(tmp_path, body):
    desk(tmp_path / "waist" / "desk", body)
    found = waist.evaluate_waist(tmp_path, Networks(None, None, None, None))
    assert list(found) == ["desk"] and len(found["desk"]) == 3
    for name, known in found["desk"].items():
        assert known["given"]["pa"] < 30 and known["given"]["mpjpe"] < 80 and known["given"]["away"] == 0, (name, known)
    assert waist.evaluate_waist(tmp_path / "none", Networks(None, None, None, None)) == {}


def test_signers_who_turn_their_back_are_counted(tmp_path, body, monkeypatch):
    """The same body, once as it is, once with left and right exchanged: who faces the camera is only the first."""
    pixels = np.nan_to_num((body / body[..., 2:]) @ LENS.T)[..., :2]
    confidence = np.isfinite(body[..., 0]) * 0.9
    mirror = LAYOUTS["blazepose33"].mirror
    takes = {"a": (pixels, confidence), "b": (pixels[:, mirror], confidence[:, mirror])}
    (tmp_path / "waist" / "signers").mkdir(parents=True)
    for name in takes:
        (tmp_path / "waist" / "signers" / f"{name}.pose").write_bytes(name.encode())

    class Pose:
        @staticmethod
        def read(data):
            points, sure = takes[data.decode()]
            size = types.SimpleNamespace(width=1280, height=720)
            held = types.SimpleNamespace(data=np.ma.masked_array(points[:, None]), confidence=np.ma.masked_array(sure[:, None]), fps=30)
            return types.SimpleNamespace(header=types.SimpleNamespace(dimensions=size), body=held)

    monkeypatch.setitem(sys.modules, "pose_format", types.SimpleNamespace(Pose=Pose))
    found = waist.evaluate_waist(tmp_path, Networks(None, None, None, None))["signers"]
    assert found["clips"] == 2 and found["frames"] == 2 * len(body) and found["away"] == pytest.approx(50)


def test_what_reads_the_signers_is_asked_for_before_anything_is_measured(tmp_path, monkeypatch):
    waist.ready(tmp_path)  # no data, nothing to read
    (tmp_path / "waist" / "signers").mkdir(parents=True)
    monkeypatch.setattr(waist, "find_spec", lambda name: None)
    with pytest.raises(LgdError, match="pose-format"):
        waist.ready(tmp_path)
    monkeypatch.setattr(waist, "find_spec", lambda name: name == "pose_format")
    waist.ready(tmp_path)
