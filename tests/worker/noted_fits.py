# SPDX-License-Identifier: GPL-3.0-or-later
"""A fitter in the real one's place that only notes what it is asked for, and a job's messages."""

import sys
import types
from dataclasses import dataclass

import numpy as np

import bridge.lgd
from bridge import commands, handlers
from bridge.keypoints.tracks import Keypoints
from bridge.motion import Motion


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


def note_fits(monkeypatch):
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
    importers = types.SimpleNamespace(read_keypoints=lambda path, image_size=None, fps=None: Keypoints.load(path))
    monkeypatch.setitem(sys.modules, "bridge.keypoints.importers", importers)
    return noted


def run(tmp_path, keypoints, counts_from=Recorder.counts_from, **request):
    keypoints.save(tmp_path / "k.npz")
    task = Recorder()
    task.counts_from = counts_from
    request = {"keypoints": str(tmp_path / "k.npz"), "out": str(tmp_path), **request}
    return handlers.fit(request, task), task
