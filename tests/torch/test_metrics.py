# SPDX-License-Identifier: GPL-3.0-or-later
"""The accuracy figures on cases whose answer is known."""

import math

import numpy as np
import pytest
import torch

from bridge.body.files import load_body
from bridge.body.smpl import BodyModel
from bridge.rotations import exp_so3
from bridge.train.evaluate.cases import Case, Soles
from bridge.train.evaluate.figures import Prediction, Sums, frame_errors, hips, score, to_world, true_contacts
from bridge.train.metrics import acceleration_error, mpjpe, pa_mpjpe, procrustes, sliding


def some_joints(frames: int = 7, joints: int = 12) -> torch.Tensor:
    return torch.randn(frames, joints, 3, generator=torch.Generator().manual_seed(0))


def test_alignment_takes_out_turn_scale_and_place():
    truth = some_joints()
    turn = exp_so3(torch.tensor([0.3, -1.2, 0.5]))
    moved = 1.7 * truth @ turn.T + torch.tensor([1.0, -2.0, 5.0])
    assert pa_mpjpe(moved, truth).max() < 1e-2
    assert torch.allclose(procrustes(moved, truth), truth, atol=1e-4)


def test_alignment_does_not_mirror():
    truth = some_joints()
    assert pa_mpjpe(truth * torch.tensor([-1.0, 1.0, 1.0]), truth).min() > 100


def test_alignment_never_beats_the_best_of_many_similarities():
    truth, predicted = some_joints(1), some_joints(1) + 0.1 * torch.randn(1, 12, 3)
    aligned = (procrustes(predicted, truth) - truth).square().sum()
    gen = torch.Generator().manual_seed(1)
    for _ in range(200):
        turn = exp_so3(0.2 * torch.randn(3, generator=gen))
        other = (1 + 0.1 * torch.randn(1, generator=gen)) * predicted @ turn.T + 0.05 * torch.randn(
            3, generator=gen
        )
        assert (other - truth).square().sum() >= aligned - 1e-4


def test_mpjpe_removes_the_root_only():
    truth = some_joints()
    shifted = truth + torch.tensor([0.0, 0.0, 3.0])
    assert mpjpe(shifted, truth, shifted[:, 0], truth[:, 0]).max() < 1e-3
    off = shifted.clone()
    off[:, 5, 0] += 0.12
    assert torch.allclose(mpjpe(off, truth, off[:, 0], truth[:, 0]), torch.full((7,), 10.0), atol=1e-2)


def test_acceleration_error_is_in_metres_per_second_squared():
    t = torch.arange(20) / 30
    truth = torch.zeros(20, 2, 3)
    falling = truth.clone()
    falling[..., 1] = 0.5 * 9.81 * t[:, None] ** 2
    assert torch.allclose(acceleration_error(falling, truth, 30), torch.full((18,), 9.81), rtol=1e-2)


def test_sliding_counts_touching_frames_and_horizontal_motion_only():
    feet = torch.zeros(5, 4, 3)
    feet[:, 0, 0] = 0.004 * torch.arange(5)
    feet[:, 1, 2] = 0.1 * torch.arange(5)
    contact = torch.zeros(5, 4, dtype=torch.bool)
    contact[:, 0] = True
    assert math.isclose(float(sliding(feet, contact)), 4.0, rel_tol=1e-4)
    contact[:, 1] = True
    assert math.isclose(float(sliding(feet, contact)), 2.0, rel_tol=1e-4)
    assert math.isnan(float(sliding(feet, torch.zeros(5, 4, dtype=torch.bool))))


def test_world_has_z_along_up():
    up = torch.tensor([0.1, -0.98, 0.15])
    assert torch.allclose(to_world(up / up.norm(), up), torch.tensor([0.0, 0.0, 1.0]), atol=1e-5)
    points = some_joints()
    assert torch.allclose(to_world(points, up).norm(dim=-1), points.norm(dim=-1), atol=1e-4)


@pytest.fixture(scope="module")
def standing() -> tuple[Case, Soles]:
    body = BodyModel(load_body())
    soles = Soles(body)
    rotations = torch.eye(3).expand(10, 24, 3, 3).clone()
    rotations[:, 0] = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
    pelvis = torch.tensor([0.0, 0.0, 4.0]).expand(10, 3)
    betas = torch.zeros(10)
    joints = body.shaped(betas, "smpl").posed(rotations, pelvis).joints
    case = Case(
        0, 0, "walk", "coco17", torch.zeros(10, 30, 2), torch.ones(10, 30), rotations, joints, betas,
        torch.tensor([0.0, -1.0, 0.0]), soles(rotations, betas, pelvis), torch.ones(10, dtype=torch.bool), True,
    )  # fmt: skip
    return case, soles


def test_a_standing_body_touches_with_all_soles_at_one_height(standing):
    case, _ = standing
    assert true_contacts(case).all()
    heights = to_world(case.soles, case.up)[..., 2]
    assert float(heights.max() - heights.min()) < 0.03
    assert not true_contacts(Case(**{**case.__dict__, "grounded": False})).any()


def test_the_truth_scores_nothing_and_a_slide_scores_its_length(standing):
    case, _ = standing
    sums = Sums()
    score(case, Prediction(case.joints, case.soles, torch.ones(10, 24), case.betas), sums)
    assert all(abs(sums.mean("walk", name)) < 0.05 for name in ("pa", "mpjpe", "acc", "slide"))
    drift = torch.zeros(10, 1, 3)
    drift[:, 0, 0] = 0.007 * torch.arange(10)
    other = Sums()
    heights = torch.full((10, 4), -0.02)
    score(case, Prediction(case.joints + drift, case.soles + drift, torch.ones(10, 24), case.betas, heights), other)
    assert math.isclose(other.mean("walk", "ground"), 20, rel_tol=1e-3) and sums.mean("walk", "ground") is None
    assert math.isclose(other.mean("walk", "slide"), 7.0, rel_tol=1e-3)
    assert other.mean("walk", "mpjpe") < 0.05
    assert other.mean("plain", "pa") is None


def test_glitches_do_not_count(standing):
    case, _ = standing
    ok = case.ok.clone()
    ok[4] = False
    bad = case.joints.clone()
    bad[4] *= torch.tensor([3.0, 1.0, 1.0])
    sums = Sums()
    score(
        Case(**{**case.__dict__, "ok": ok}), Prediction(bad, case.soles, torch.ones(10, 24), case.betas), sums
    )
    assert sums.mean("walk", "pa") < 0.05 and sums.mean("walk", "acc") < 0.05


def test_errors_are_over_the_twelve_limb_joints(standing):
    case, _ = standing
    moved = case.joints.clone()
    moved[:, 15] += 1.0  # the head is none of them
    pa, plain = frame_errors(moved, case.joints)
    assert pa.max() < 0.05 and plain.max() < 0.05
    assert np.allclose(hips(case.joints), case.joints[:, [1, 2]].mean(1))
