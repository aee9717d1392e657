# SPDX-License-Identifier: GPL-3.0-or-later
"""The baselines work: their minimisers find known minima, the prior knows its poses, SMPLify fits clean 2D."""

from types import SimpleNamespace

import pytest
import torch

from bridge.body.files import load_body
from bridge.body.joints import LIMBS
from bridge.body.smpl import BodyModel
from bridge.errors import LgdError
from bridge.rotations import exp_so3
from bridge.train import baselines
from bridge.train.baselines import STAGES, PosePrior, Smplify, fit_prior, frames_of
from bridge.train.metrics import pa_mpjpe
from bridge.train.minimise import adam, lbfgs

BODY = BodyModel(load_body())


def rosenbrock(x, rows):
    return (1 - x[:, 0]) ** 2 + (10.0 + rows) * (x[:, 1] - x[:, 0] ** 2) ** 2


def test_lbfgs_solves_every_row_for_itself():
    start = torch.tensor([[-1.2, 1.0], [0.0, 0.0], [1.0, 1.0], [2.0, -1.0]])
    found = lbfgs(rosenbrock, start, 300, tolerance=1e-9)
    assert torch.allclose(found.x, torch.ones(4, 2), atol=1e-2)
    assert found.iterations[2] <= found.iterations[0]
    alone = lbfgs(lambda x, rows: rosenbrock(x, rows + 1), start[1:2], 300, tolerance=1e-9)
    assert torch.allclose(alone.x[0], found.x[1], atol=1e-3)


def test_lbfgs_never_climbs_and_says_when_it_did_not_converge():
    start = torch.tensor([[-1.2, 1.0]])
    few = lbfgs(rosenbrock, start, 3, tolerance=0.0)
    rows = torch.arange(1)
    assert few.energy[0] <= rosenbrock(start, rows)[0] and not few.converged[0] and few.iterations[0] == 3
    assert torch.allclose(few.energy, rosenbrock(few.x, rows))


def test_adam_reaches_a_minimum_and_keeps_the_best_point():
    goal = torch.tensor([[1.0, -2.0], [0.5, 3.0]])
    found = adam(
        lambda x, rows: (x - goal[rows]).square().sum(-1) + 1,
        torch.zeros(2, 2),
        2000,
        torch.tensor([0.05, 0.05]),
    )
    assert torch.allclose(found.x, goal, atol=0.1) and found.converged.all()


def test_prior_prefers_what_it_has_seen():
    gen = torch.Generator().manual_seed(0)
    centres = torch.randn(2, 69, generator=gen)
    poses = torch.cat([c + 0.1 * torch.randn(300, 69, generator=gen) for c in centres])
    prior = fit_prior(poses, components=2, rounds=8)
    assert prior(centres).max() < prior(centres.mean(0, keepdim=True) + 1).min()
    assert min((prior.mean - c).norm() for c in centres) < 0.2
    assert (prior(poses) >= 0).all()


def scene(layout: str = "body25b") -> tuple[torch.Tensor, torch.Tensor, PosePrior]:
    """Four people in plain poses, one turned away: rays and joints; and a broad prior round the rest pose."""
    gen = torch.Generator().manual_seed(2)
    pose = torch.zeros(4, 24, 3)
    pose[:, 16, 2], pose[:, 17, 2] = -1.0, 1.0
    pose[:, 18, 1], pose[:, 19, 1] = -0.6, 0.6
    pose[:, 1, 0] = -0.5 * torch.rand(4, generator=gen)
    pose[:, 4, 0] = pose[:, 5, 0] = 0.8 * torch.rand(4, generator=gen)
    rotations = exp_so3(pose)
    yaw = torch.tensor([0.2, -0.4, 3.0, 0.5])
    spin = exp_so3(torch.stack((torch.zeros(4), yaw, torch.zeros(4)), -1))
    rotations[:, 0] = torch.diag(torch.tensor([1.0, -1.0, -1.0])) @ spin
    pelvis = torch.tensor([[0.0, 0.0, 4.0], [0.5, 0.1, 3.0], [-0.4, 0.0, 6.0], [0.0, 0.2, 5.0]])
    posed = BODY.shaped(torch.zeros(10), layout).posed(rotations, pelvis)
    rays = posed.points[..., :2] / posed.points[..., 2:]
    prior = PosePrior(pose[:1, 1:].flatten(1) * 0.8, torch.eye(69)[None] * 3, torch.zeros(1))
    return rays, posed.joints, prior


def available(layout: str) -> torch.Tensor:
    from bridge.body.landmarks import available_points

    return torch.from_numpy(available_points(layout)).float().expand(4, -1)


def test_smplify_fits_clean_points_and_finds_who_is_turned_away():
    rays, joints, prior = scene()
    problem = Smplify(BODY, prior, frames_of(BODY, "body25b", rays, available("body25b")))
    found = problem.smplify()
    limbs = list(LIMBS)
    assert found.reprojection.max() < 5  # px of a person 300 px tall
    assert pa_mpjpe(found.joints[:, limbs], joints[:, limbs]).max() < 70
    facing = joints[:, 16, 0] - joints[:, 17, 0]
    assert (torch.sign(found.joints[:, 16, 0] - found.joints[:, 17, 0]) == torch.sign(facing)).all()
    assert (found.joints[:, 0, 2] / joints[:, 0, 2]).log().abs().max() < 0.25
    assert (found.iterations > 0).all()


@pytest.mark.parametrize("method", ["lbfgs", "adam"])
def test_few_steps_lower_the_energy_and_more_lower_it_further(method):
    rays, _, prior = scene()
    problem = Smplify(BODY, prior, frames_of(BODY, "body25b", rays, available("body25b")))
    start, _ = problem.both_starts
    first = problem.energy(start, torch.arange(4), *STAGES[-1])
    few, more = problem.generic(method, 3), problem.generic(method, 40)
    assert more.energy.mean() < few.energy.mean() < first.mean()


def test_elbows_and_knees_that_bend_backwards_cost_what_they_do_as_published():
    rays, _, _ = scene()
    flat = PosePrior(torch.zeros(1, 69), torch.zeros(1, 69, 69), torch.zeros(1))
    problem = Smplify(BODY, flat, frames_of(BODY, "body25b", rays, torch.zeros(4, 30)))
    x = torch.zeros(4, 85)
    x[1, 55], x[2, 12], x[3, 58] = 0.5, -0.5, 0.5  # left elbow and left knee the wrong way, right elbow the right one
    bent = torch.tensor([0.0, 0.5, 0.5, -0.5])
    cost = (4.78 * 0.317 * 10) ** 2 * (3 + (2 * bent).exp())  # each term weight * 10 exp(bend), squared
    assert torch.allclose(problem.energy(x, torch.arange(4), 4.78, 0.0), cost, rtol=1e-4)


def test_missing_points_pull_nothing():
    rays, _, prior = scene()
    seen = available("body25b").clone()
    seen[:, 9] = 0
    wild = rays.clone()
    wild[:, 9] = 50.0
    x = torch.zeros(4, 85)
    rows = torch.arange(4)
    a = Smplify(BODY, prior, frames_of(BODY, "body25b", rays, seen)).energy(x, rows, 1.0, 1.0)
    b = Smplify(BODY, prior, frames_of(BODY, "body25b", wild, seen)).energy(x, rows, 1.0, 1.0)
    assert torch.allclose(a, b)


def test_a_kept_prior_is_that_of_the_frames_it_was_fitted_to(tmp_path, monkeypatch):
    fitted = []

    def train_prior(train, count):
        fitted.append(count)
        return PosePrior(torch.zeros(1, 69), torch.eye(69)[None], torch.zeros(1))

    monkeypatch.setattr(baselines, "train_prior", train_prior)
    frames, kept = SimpleNamespace(quats=torch.zeros(50, 24, 4)), tmp_path / "prior.pt"
    for _ in range(2):
        assert torch.equal(baselines.cached_prior(frames, kept, 40).means, torch.zeros(1, 69))
    assert fitted == [40]
    with pytest.raises(LgdError, match="fitted to 40 of 50"):
        baselines.cached_prior(frames, kept, 20)
    (tmp_path / "other.pt").write_bytes(b"no")
    with pytest.raises(LgdError, match="holds no prior"):
        baselines.cached_prior(frames, tmp_path / "other.pt", 40)
    with pytest.raises(LgdError, match="no folder"):
        baselines.cached_prior(frames, tmp_path / "gone" / "prior.pt", 40)
    assert fitted == [40]
