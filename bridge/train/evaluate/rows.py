# SPDX-License-Identifier: GPL-3.0-or-later
"""The rows of the tables that are ours: each a way to fit a clip through `bridge.lgd.fitter.fit`, the path users take."""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from ...keypoints.tracks import Keypoints
from ...lgd import fitter
from ...lgd.checkpoint import load_network
from ...lgd.fitter import FitOptions, fit
from ...lgd.paper import PaperNet
from ...lgd.video import FAMILIES, VideoConfig, VideoNet
from ...motion import Motion
from ...rotations import exp_so3
from .cases import FOCAL, Case, Soles
from .figures import Prediction

BATCH = 256  # the common large batch: frames fitted at once


LAST = f"video{VideoConfig().steps}"  # key of video mode's last step


@dataclass(frozen=True)
class Row:
    """A named way to fit: mode, learned steps, whether its feedback is blinded, whether the feet are planted afterwards."""

    key: str
    title: str
    mode: str
    steps: int | None
    blind: bool = False
    planted: bool = False


def our_rows() -> list[Row]:
    rows = [Row(f"paper{k}", f"paper, step {k}", "paper", k) for k in range(4)]
    rows.append(Row("paper_blind", "paper, no gradient", "paper", 3, True))
    rows += [Row(f"video{k}", f"video, step {k}", "video", k) for k in range(VideoConfig().steps + 1)]
    rows.append(Row("video_blind", "video, no feedback", "video", None, True))
    rows.append(Row("video_planted", "video, feet planted", "video", None, planted=True))
    return rows


class Networks:
    """The networks under test, by mode and family of keypoint layouts. Weights come from the files named, else from those
    that ship.

    A blind row runs weights trained blind where a file of such is given, and else the same network with that input
    zeroed; `blind_trained` tells which.
    """

    def __init__(
        self, video: Path | None, paper: Path | None, video_blind: Path | None, paper_blind: Path | None
    ):
        self.plain = _by_family(video, paper)
        self.blind_trained = {"video": video_blind is not None, "paper": paper_blind is not None}
        self.blind = _by_family(video_blind or video, paper_blind or paper)
        for net in self.blind.values():
            net.blind = True

    @contextlib.contextmanager
    def used(self, blind: bool = False) -> Iterator[None]:
        """Within it `fit` uses these networks."""
        nets = self.blind if blind else self.plain
        before = fitter._network
        fitter._network = lambda mode, device, weights=None, family=None: nets[mode, family]
        try:
            yield
        finally:
            fitter._network = before


def _by_family(video: Path | None, paper: Path | None) -> dict[tuple[str, str | None], VideoNet | PaperNet]:
    nets = {("video", family): load_network("video", path=video, family=family) for family in FAMILIES}
    return {**nets, ("paper", None): load_network("paper", path=paper)}


def run_row(row: Row, networks: Networks, keypoints: Keypoints, focal: float | None = FOCAL) -> Motion:
    with networks.used(row.blind):
        return fit(keypoints, FitOptions(mode=row.mode, focal=focal, steps=row.steps, device="cpu", plant_feet=row.planted))[0]


def predict(row: Row, networks: Networks, case: Case, soles: Soles) -> Prediction:
    """A row's result for a case."""
    return prediction_of(run_row(row, networks, case.keypoints()), soles)


def prediction_of(motion: Motion, soles: Soles) -> Prediction:
    joints = torch.as_tensor(motion.joints).float()
    betas = torch.as_tensor(motion.betas).float()
    rotations = exp_so3(torch.as_tensor(motion.poses).float().unflatten(-1, (24, 3)))
    confidence = torch.as_tensor(motion.joint_confidence).float()
    feet, world = soles(rotations, betas, joints[:, 0]), torch.as_tensor(motion.T_world_cam).float()
    return Prediction(joints, feet, confidence, betas, feet @ world[2, :3] + world[2, 3])


def milliseconds(row: Row, networks: Networks, case: Case, repeats: int = 5) -> tuple[float, float]:
    """ms a frame at batch 1 (a clip of one frame) and at BATCH frames, the best of several runs each."""
    whole = case.keypoints()
    one, many = whole.cut(0, 1), _repeat(whole, BATCH)
    out = []
    for keypoints in (one, many):
        best = 1e9
        for _ in range(repeats):
            started = time.perf_counter()
            run_row(row, networks, keypoints)
            best = min(best, time.perf_counter() - started)
        out.append(best * 1000 / keypoints.frames)
    return out[0], out[1]


def _repeat(keypoints: Keypoints, frames: int) -> Keypoints:
    """The clip, forth and back, until it has `frames` frames."""
    index = torch.arange(frames) % (2 * keypoints.frames - 2 or 1)
    index = torch.where(index >= keypoints.frames, 2 * keypoints.frames - 2 - index, index).numpy()
    return Keypoints(
        keypoints.keypoints[:, index], keypoints.confidence[:, index], keypoints.layout, keypoints.image_size,
        fps=keypoints.fps,
    )  # fmt: skip
