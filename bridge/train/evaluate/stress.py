# SPDX-License-Identifier: GPL-3.0-or-later
"""Stress tests of video mode: what must not break it, each beside the undisturbed result."""

import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...body.joints import LIMBS
from ...body.landmarks import FAMILY
from ...keypoints.repair import reject_outliers, repair_swaps
from ...keypoints.tracks import Keypoints
from ...lgd.fitter import FitOptions, error_of, fit
from ...lgd.solve_video import VideoSolver
from ...lgd.video import State
from ...rotations import exp_so3
from ..data import Mocap
from ..synthetic_detector import ARMS, LEGS, MIRROR
from .cases import CAMERAS, FOCAL, Case, Soles, make_cases
from .figures import frame_errors, hips, limbs
from .rows import Networks, Row, prediction_of, run_row
from .tables import pa_of

VIDEO, PAPER = Row("video", "video", "video", None), Row("paper", "paper", "paper", 3)
DISTANCES = (1.2, 4.0, 15.0)  # m
SPEED_FRAMES = 1000


def stress(mocap: Mocap, soles: Soles, networks: Networks, quick: bool, weights: list[str]) -> dict:
    """All tests; each value in the units its name says. weights: `--video-weights FILE ...` for the process in which
    speed and memory are measured."""
    longest, clips, cameras = (96, 1, 1) if quick else (240, None, CAMERAS)
    all_noisy = make_cases(mocap, soles, ("plain", "hard"), "noise 20%", cameras, longest, clips)
    all_clean = make_cases(mocap, soles, ("plain",), "clean", cameras, longest, clips)
    all_noisy, all_clean = ([c for c in cases if c.frames >= 60] for cases in (all_noisy, all_clean))
    # One camera is enough for a mean, not for what is worst.
    noisy, clean = ([c for c in cases if c.number == 0] for cases in (all_noisy, all_clean))
    usual = [prediction_of(run_row(VIDEO, networks, c.keypoints()), soles) for c in noisy]
    out: dict = {}
    for part in (
        lambda: start_turned(noisy, soles, networks, usual),
        lambda: swapped("swap_", all_clean, soles, networks),
        lambda: swapped("swap_noisy_", all_noisy, soles, networks),
        lambda: wrong_focal(noisy, soles, networks, usual),
        lambda: unseen(all_noisy, soles, networks),
        lambda: distances(clean, soles, networks),
        lambda: ranking("", noisy, usual),
        lambda: never_seen(noisy, soles, networks),
        lambda: speed(noisy[0], weights, quick),
    ):
        out.update(part())
    return out


def _pa(case: Case, joints: Tensor) -> float:
    return float(pa_of(joints, case.joints)[case.ok].mean())


def _both(case: Case, joints: Tensor) -> tuple[float, float]:
    """PA-MPJPE and MPJPE (mm)."""
    pa, plain = (e[case.ok].mean() for e in frame_errors(joints, case.joints))
    return float(pa), float(plain)


def start_turned(cases: list[Case], soles: Soles, networks: Networks, usual) -> dict:
    """The first estimate's root turned by 60 degrees about the image's vertical: with all hypotheses, and alone. MPJPE too: a body
    that stays turned is laid on the truth by PA-MPJPE."""
    turn = exp_so3(torch.tensor([0.0, np.pi / 3, 0.0], dtype=torch.float32))

    def spin(state: State) -> State:
        rotations = torch.cat((turn @ state.rotations[:, :, :1], state.rotations[:, :, 1:]), 2)
        return State(rotations, state.tau, state.betas, state.focal, state.contact, state.up, state.doubt)

    found = {
        "usual": [_both(c, u.joints) for c, u in zip(cases, usual, strict=True)],
        "start_turned": [_both(c, _from_start(c, soles, networks, spin, True)) for c in cases],
        "start_turned_one_hypothesis": [_both(c, _from_start(c, soles, networks, spin, False)) for c in cases],
    }
    means = {name: np.mean(errors, 0) for name, errors in found.items()}
    return {f"{name}_{key}": float(mean[i]) for name, mean in means.items() for i, key in enumerate(("pa", "mpjpe"))}


def _from_start(case: Case, soles: Soles, networks: Networks, start, hypotheses: bool) -> Tensor:
    """Joints (T, 24, 3) about the pelvis from a changed start, after the same repair as `fit`'s."""
    points, confidence, _ = repair_swaps(case.rays.numpy() * FOCAL, case.confidence.numpy())
    confidence = reject_outliers(points, confidence, np.arange(len(points)) / 30)
    solver = VideoSolver(networks.plain["video", FAMILY[case.layout]], soles.body, case.layout)
    solved = solver.solve(
        torch.as_tensor(points / FOCAL).float(), torch.as_tensor(confidence).float(), focal_known=True, static=True,
        start=start, hypotheses=hypotheses,
    )  # fmt: skip
    return soles.body.shaped(solved.betas, "smpl").posed(solved.rotations).joints


def swapped(name: str, cases: list[Case], soles: Soles, networks: Networks) -> dict:
    """Left and right exchanged for ten frames mid-clip: frames whose PA is above twice the unswapped result's. Exact points show
    every exchange; a detector's noise hides some."""
    wrong, worst = [], 0
    for case in cases:
        before = pa_of(prediction_of(run_row(VIDEO, networks, case.keypoints()), soles).joints, case.joints)
        first = case.frames // 2 - 5
        rays, confidence = case.rays.clone(), case.confidence.clone()
        span = slice(first, first + 10)
        rays[span], confidence[span] = rays[span][:, MIRROR], confidence[span][:, MIRROR]
        other = _with(case, rays, confidence)
        after = pa_of(prediction_of(run_row(VIDEO, networks, other.keypoints()), soles).joints, case.joints)
        count = int((after[span] > 2 * before[span]).sum())
        wrong.append(count)
        worst = max(worst, count)
    out = {"wrong_frames_mean": float(np.mean(wrong)), "wrong_frames_worst": worst, "clips": len(wrong)}
    return {name + key: value for key, value in out.items()}


def _with(case: Case, rays: Tensor, confidence: Tensor) -> Case:
    return replace(case, rays=rays, confidence=confidence)


def wrong_focal(cases: list[Case], soles: Soles, networks: Networks, usual) -> dict:
    """The focal length told wrong by a factor of two either way, and not told."""
    plain = np.mean([_pa(c, u.joints) for c, u in zip(cases, usual, strict=True)])
    out = {}
    for name, focal in (("half", FOCAL / 2), ("double", FOCAL * 2), ("unknown", None)):
        found = [prediction_of(run_row(VIDEO, networks, c.keypoints(), focal), soles).joints for c in cases]
        out[f"focal_{name}_pa_change"] = float(
            np.mean([_pa(c, j) for c, j in zip(cases, found, strict=True)]) - plain
        )
    return out


def unseen(cases: list[Case], soles: Soles, networks: Networks) -> dict:
    """Fifteen frames with nothing seen: the most that a joint (about the pelvis, and in the camera frame) moves between
    two frames, in or at the edges of the gap, beyond what the truth moves there."""
    worst = {"relative": 0.0, "absolute": 0.0}
    finite = True
    for case in cases:
        first = case.frames // 2 - 7
        confidence = case.confidence.clone()
        confidence[first : first + 15] = 0
        found = prediction_of(
            run_row(VIDEO, networks, _with(case, case.rays, confidence).keypoints()), soles
        ).joints
        finite &= bool(torch.isfinite(found).all())
        span = slice(first - 1, first + 16)
        for name, root in (("relative", 1.0), ("absolute", 0.0)):
            step = [
                (j[1:] - j[:-1]).norm(dim=-1)[span]
                for j in (x - root * x[:, :1] for x in (found, case.joints))
            ]
            worst[name] = max(worst[name], float((step[0] - step[1]).max()) * 1000)
    return {
        "unseen_extra_mm_a_frame": worst["relative"],
        "unseen_extra_mm_a_frame_camera": worst["absolute"],
        "unseen_finite": finite,
    }


def distances(cases: list[Case], soles: Soles, networks: Networks) -> dict:
    """The same people at several distances, clean 2D, the focal length such that they fill 70 % of the image's height.

    With the focal length given, the fit sees rays alone: its value enters through nothing else.
    """
    out: dict = {}
    for distance in DISTANCES:
        errors = []
        for case in cases:
            moved = _at_distance(case, soles, distance)
            found = prediction_of(run_row(VIDEO, networks, moved.keypoints()), soles).joints
            errors.append(_pa(moved, found))
        out[f"distance_{distance:g}m_pa"] = float(np.mean(errors))
    return out


def _at_distance(case: Case, soles: Soles, distance: float) -> Case:
    """The clip on the spot (its root's path removed) at `distance` on the camera's axis."""
    pelvis = torch.tensor([0.0, 0.0, distance]).expand(case.frames, 3)
    posed = soles.body.shaped(case.betas, case.layout).posed(case.rotations, pelvis)
    rays = posed.points[..., :2] / posed.points[..., 2:].clamp_min(0.1)
    return replace(case, rays=rays, joints=posed.joints)


def never_seen(cases: list[Case], soles: Soles, networks: Networks) -> dict:
    """The confidence where a limb is seen in no frame: in turn an arm beyond its shoulder, and both legs beyond the hips."""
    lost = []
    for number, case in enumerate(cases):
        rows = torch.cat(LEGS) if number % 2 else ARMS[0][1:]
        seen = case.confidence.clone()
        seen[:, rows] = 0
        lost.append(_with(case, case.rays, seen))
    found = [prediction_of(run_row(VIDEO, networks, case.keypoints()), soles) for case in lost]
    return ranking("limbs_never_seen_", lost, found)


def ranking(name: str, cases: list[Case], predictions) -> dict:
    """How joint_confidence ranks true errors: Spearman's rank correlation with the joint error about the hips, and the
    chance (AUC) that a joint wrong by more than 10 cm has less confidence than one that is not; and the error that the confidence
    expects beside the true one, over all limb joints and over those where it expects more than 15 cm."""
    error, confidence = [], []
    for case, prediction in zip(cases, predictions, strict=True):
        p, t = (limbs(j) - hips(j)[:, None] for j in (prediction.joints, case.joints))
        error.append((p - t).norm(dim=-1)[case.ok].flatten())
        confidence.append(prediction.confidence[:, list(LIMBS)][case.ok].flatten())
    e, c = torch.cat(error).numpy(), torch.cat(confidence).numpy()
    ranks = [np.argsort(np.argsort(v, kind="stable"), kind="stable").astype(float) for v in (e, c)]
    spearman = float(np.corrcoef(*ranks)[0, 1])
    bad = e > 0.10
    auc = None
    if bad.any() and (~bad).any():
        order = np.argsort(np.argsort(-c, kind="stable"), kind="stable") + 1.0
        auc = float((order[bad].sum() - bad.sum() * (bad.sum() + 1) / 2) / (bad.sum() * (~bad).sum()))
    expected = error_of(c)
    far = expected > 0.15
    out = {
        "confidence_spearman": -spearman, "confidence_auc_10cm": auc, "joints_beyond_10cm": float(bad.mean()),
        "expected_error_mm": 1000 * float(expected.mean()), "true_error_mm": 1000 * float(e.mean()),
    }  # fmt: skip
    if far.any():
        out["expected_beyond_15cm_mm"], out["true_where_so_mm"] = 1000 * float(expected[far].mean()), 1000 * float(e[far].mean())
    return {name + key: value for key, value in out.items()}


def speed(case: Case, weights: list[str], quick: bool) -> dict:
    """Frames a second of a 1,000-frame clip in video mode with all hypotheses, peak memory, and ms for one image in
    paper mode: in a process of its own, with two threads."""
    keep = case.keypoints()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "keypoints.npz"
        index = np.arange(SPEED_FRAMES) % (2 * keep.frames - 2)
        index = np.where(index >= keep.frames, 2 * keep.frames - 2 - index, index)
        keep.keypoints, keep.confidence = keep.keypoints[:, index], keep.confidence[:, index]
        keep.save(path)
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[3])}
        environment.pop("OMP_NUM_THREADS", None)
        done = subprocess.run(
            [sys.executable, "-m", "bridge.train.evaluate.stress", str(path), "1" if quick else "5", *weights],
            capture_output=True, text=True, check=True, env=environment,
        )  # fmt: skip
    return json.loads(done.stdout.splitlines()[-1])


def _measure_speed(path: Path, repeats: int, video: Path | None, paper: Path | None) -> dict:
    torch.set_num_threads(2)
    networks = Networks(video, paper, None, None)
    keypoints = Keypoints.load(path)
    best, single = 1e9, 1e9
    with networks.used():
        options = FitOptions(mode="video", focal=FOCAL, device="cpu")
        fit(keypoints.cut(0, 64), options)
        for _ in range(repeats):
            started = time.perf_counter()
            motion, _ = fit(keypoints, options)
            best = min(best, time.perf_counter() - started)
        one, options = keypoints.cut(0, 1), FitOptions(mode="paper", focal=FOCAL, device="cpu")
        for _ in range(repeats + 3):
            started = time.perf_counter()
            fit(one, options)
            single = min(single, time.perf_counter() - started)
    peak = _peak_memory()
    return {
        "speed_fps_1000_frames": keypoints.frames / best, "paper_single_image_ms": single * 1000,
        "peak_memory_mb": peak, "beta_vectors_in_a_clip": int(np.ndim(motion.betas) == 1),
    }  # fmt: skip


def _peak_memory() -> float:
    """MB. Not getrusage's, where it can be avoided: a process begins with what the one that started it had."""
    status = Path("/proc/self/status")
    if status.is_file():
        return int(re.search(r"VmHWM:\s+(\d+)", status.read_text())[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    files = [Path(a) if a != "-" else None for a in sys.argv[3:5]]
    files += [None] * (2 - len(files))
    print(json.dumps(_measure_speed(Path(sys.argv[1]), int(sys.argv[2]), *files)))
