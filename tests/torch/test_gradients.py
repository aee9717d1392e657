# SPDX-License-Identifier: GPL-3.0-or-later
"""The closed-form gradients that the learned steps are fed equal automatic differentiation."""

import pytest
import torch

from bridge.body import smpl
from bridge.body.files import load_body
from bridge.body.smpl import BodyModel, pull_back
from bridge.lgd import paper
from bridge.lgd.energy import EPS_POINT, _lasting, feedback
from bridge.lgd.newton import DAMPING_CLIP, Solution, Tree, clip_step, usual_damping
from bridge.lgd.observation import PERSON, locate_pelvis, observe, place_pelvis, project
from bridge.lgd.video import ClipBody
from bridge.rotations import exp_so3, from_6d, gradient_of_vector, log_so3, to_6d


def body() -> BodyModel:
    return BodyModel(load_body())


def random_rotations(*shape: int, size: float = 0.5) -> torch.Tensor:
    return exp_so3(torch.randn(*shape, 3) * size)


def test_exponential_and_logarithm_invert_each_other_near_zero_and_near_pi():
    torch.manual_seed(0)
    axis = torch.nn.functional.normalize(torch.randn(200, 3), dim=-1).double()
    for angle in (0.0, 1e-8, 1e-4, 0.5, 2.0, 2.99, 3.01, 3.1, 3.14159):
        vector = axis * angle
        assert torch.allclose(log_so3(exp_so3(vector)), vector, atol=2e-6), angle
    assert torch.allclose(from_6d(to_6d(exp_so3(axis))), exp_so3(axis), atol=1e-9)


def test_the_gradient_of_an_axis_angle_vector_follows_from_that_of_a_turn():
    torch.manual_seed(1)
    for size in (0.0, 1e-7, 1e-3, 1.0, 3.0):
        vector, step = size * torch.randn(50, 3).double(), torch.randn(50, 3).double() * 1e-6
        turn = torch.randn(50, 3).double()
        moved = log_so3(exp_so3(vector).transpose(-1, -2) @ exp_so3(vector + step))
        predicted = (gradient_of_vector(vector, turn) * step).sum(-1)
        assert torch.allclose((turn * moved).sum(-1), predicted, atol=1e-10), size


@pytest.mark.parametrize("lead", [(), (7,), (2, 3)])
def test_few_frames_and_many_are_posed_and_pulled_back_the_same(lead, monkeypatch):
    torch.manual_seed(6)
    shaped = body().shaped(torch.randn(*lead, 10), "coco17")
    rotations, pelvis, force = random_rotations(*lead, 24, size=1.0), torch.randn(*lead, 3), torch.randn(*lead, 30, 3)
    found = []
    for short in (0, 32):
        monkeypatch.setattr(smpl, "SHORT", short)
        for at in (pelvis, None):
            posed = shaped.posed(rotations, at)
            found.append((posed.joints, posed.points, posed.world, *pull_back(posed, posed.points, shaped.parents, force)))
    for few, many in zip(found[:2], found[2:], strict=True):
        for a, b in zip(few, many, strict=True):
            assert a.shape == b.shape and torch.allclose(a, b, atol=1e-5)


def test_pull_back_equals_autograd():
    torch.manual_seed(2)
    model = body()
    shaped = model.shaped(torch.randn(5, 10), "coco17")
    rotations = random_rotations(5, 24)
    pelvis = torch.randn(5, 3, requires_grad=True)
    turn = torch.zeros(5, 24, 3, requires_grad=True)
    posed = shaped.posed(rotations @ exp_so3(turn), pelvis)
    force = torch.randn(5, 30, 3)
    expected = torch.autograd.grad((posed.points * force).sum(), (turn, pelvis))
    turned, below = pull_back(posed, posed.points, shaped.parents, force)
    for a, b in zip((turned, below[:, 0]), expected, strict=True):
        assert torch.allclose(a, b, atol=1e-4)


def test_video_feedback_is_the_gradient_of_the_reprojection_energy():
    torch.manual_seed(3)
    model = body()
    offsets, directions, parents = model.landmarks("body25b")
    count, frames = 2, 4
    betas = torch.randn(count, 10)
    rotations = random_rotations(count, frames, 24, size=0.3)
    obs = observe(torch.randn(count, frames, 30, 2) * 0.1, torch.rand(count, frames, 30))
    turn = torch.zeros(count, frames, 24, 3, requires_grad=True)
    tau = torch.zeros(count, frames, 3)
    focal = torch.full((count, 1), 0.1)
    clip = ClipBody(model, offsets.expand(count, -1, -1), directions.expand(count, -1, -1, -1), parents)
    shaped = clip.shaped(betas)
    size = obs.size * (-focal).exp()[:, None]
    pelvis = place_pelvis(tau, size)
    posed = shaped.posed(rotations @ exp_so3(turn), pelvis)
    seen = (obs.confidence > 0).float()
    residual = (project(posed.points, size) - obs.points) * seen[..., None]
    error = (((residual.square().sum(-1) + EPS_POINT**2).sqrt() - EPS_POINT) * obs.confidence).sum((0, 1, 2))
    (expected,) = torch.autograd.grad(error, turn)
    limits = torch.stack((torch.full((23, 3), -9.0), torch.full((23, 3), 9.0)))
    stiff = torch.randn(count, frames, 25) * 0.5
    with torch.no_grad():
        back = feedback(
            posed, shaped, rotations, pelvis, size, obs, torch.zeros(count, frames, 4), torch.ones(count),
            torch.ones(count, 11), limits, model, clip.directions, stiff,
        )  # fmt: skip
    limit = 5.0
    assert torch.allclose(back.turn, (expected.flatten(2) * PERSON).clamp(-limit, limit), atol=2e-3)
    assert back.turn.abs().max() > 0.01

    # The damped Gauss-Newton step from the whole Jacobian.
    def seen_points(t, d):
        return project(shaped.posed(rotations @ exp_so3(t), pelvis + d).points, size)[0, 0]

    zero = torch.zeros(count, frames, 24, 3), torch.zeros(count, frames, 3)
    by_turn, by_move = torch.autograd.functional.jacobian(seen_points, zero)
    jacobian = torch.cat((by_turn[:, :, 0, 0].flatten(2), by_move[:, :, 0, 0]), -1).detach()
    weight = obs.confidence[0, 0] * seen[0, 0] / (residual[0, 0].square().sum(-1) + EPS_POINT**2).sqrt()
    damping = (usual_damping(tau) * stiff[0, 0].exp()).repeat_interleave(3)
    curvature = torch.einsum("kca,kcb,k->ab", jacobian, jacobian, weight) + damping.diag()
    slope = torch.einsum("kca,kc,k->a", jacobian, residual[0, 0], weight)
    step = -torch.linalg.solve(curvature.double(), slope.double()).float().detach()
    assert torch.allclose(back.aimed[0, 0], step[:72].clamp(-limit, limit), atol=5e-3)
    moved = locate_pelvis(pelvis[0, 0] + 1e-3 * step[72:], size[0, 0]) - tau[0, 0]
    assert torch.allclose(back.place[0, 0] * 1e-3, moved, atol=2e-6)
    assert step[:72].abs().max() > 0.1 and step[72:].abs().max() > 0.01
    slope = torch.einsum("kca,kc,k->a", jacobian, back.lasting[0, 0], weight)
    lasting = -torch.linalg.solve(curvature.double(), slope.double()).float().detach()
    assert torch.allclose(back.lasting_aimed[0, 0], lasting[:72].clamp(-limit, limit), atol=1e-4)
    assert lasting[:72].abs().max() > 0.005


def test_the_clips_step_solves_poses_and_shape_and_focal_length_together():
    """Against one dense system of two frames' poses, two places, the shape and the focal length."""
    torch.manual_seed(6)
    model = body()
    offsets, directions, parents = model.landmarks("body25b")
    clip = ClipBody(model, offsets[None], directions[None], parents)
    rotations, tau = random_rotations(1, 2, 24, size=0.3), torch.zeros(1, 2, 3)
    told = torch.full((1, 2, 1), 0.4)

    def points(turn, move, betas, focal):
        size = told * (-focal).exp()[:, None]
        return project(clip.shaped(betas).posed(rotations @ exp_so3(turn), place_pelvis(tau, size) + move).points, size)

    now = torch.zeros(1, 2, 24, 3), torch.zeros(1, 2, 3), torch.randn(1, 10) * 0.5, torch.zeros(1, 1)
    parts = torch.autograd.functional.jacobian(points, now)
    jacobian = torch.cat([p.reshape(120, -1) for p in parts], 1)
    residual, weight = torch.randn(1, 2, 30, 2) * 0.03, torch.rand(1, 2, 30) * 40
    damping = torch.rand(1, 2, 25) + 0.1
    pelvis = place_pelvis(tau, told)
    posed = clip.shaped(now[2]).posed(rotations, pelvis)
    for asked in (torch.ones(1, 11), torch.ones(1, 11).index_fill(1, torch.tensor([2, 10]), 0)):
        tree = Tree(posed, pelvis, told, parents, weight, damping)
        found = clip_step(tree, posed, pelvis, told, residual, model, clip.directions, asked)
        assert found.shape == (1, 11, len(DAMPING_CLIP))
        rows = jacobian.clone()
        rows[:, -11:] *= asked
        for k, own in enumerate(DAMPING_CLIP):
            diagonal = torch.cat((
                damping[0, :, :24].repeat_interleave(3, -1).flatten(), damping[0, :, 24:].repeat(1, 3).flatten(),
                torch.full((11,), own),
            ))  # fmt: skip
            scaled = rows * weight.flatten().repeat_interleave(2)[:, None]
            system = (rows.T @ scaled + diagonal.diag()).double()
            step = -torch.linalg.solve(system, (scaled.T @ residual.flatten()).double()).float()
            assert torch.allclose(found[0, :, k], step[-11:], atol=2e-3 * float(step[-11:].abs().max())), k
        assert torch.equal(found[0].abs().amax(-1) > 1e-4, asked[0] > 0)


def test_damping_is_learned_through_the_step():
    torch.manual_seed(7)
    shaped = body().shaped(torch.zeros(10), "body25b")
    double = type(shaped)(shaped.rest.double(), shaped.offsets.double(), shaped.parents)
    pelvis = torch.tensor([0.1, 0.2, 5.0]).double().expand(1, 2, 3)
    posed = double.posed(random_rotations(1, 2, 24, size=0.3).double(), pelvis)
    residual = torch.randn(2, 1, 2, 30, 2).double() * 0.05
    size = torch.full((1, 2, 1), 0.3).double()

    def step(damping):
        weight = torch.full((1, 2, 30), 50.0).double()
        tree = Tree(posed, pelvis, size, shaped.parents, weight, 0.3 * damping.exp().detach())
        return Solution.apply(damping, tree, tree.weighted(residual))

    start = torch.randn(1, 2, 25).double().requires_grad_()
    assert torch.autograd.gradcheck(step, (start,), eps=1e-6, atol=1e-6, rtol=1e-4)


def test_roughness_tells_shaking_from_motion():
    torch.manual_seed(8)
    time = torch.arange(120.0) / 30
    path = torch.stack((torch.sin(3 * time), torch.cos(2 * time)), -1)[None, :, None] * 0.1
    rays = path + torch.randn(1, 1, 30, 2) * 0.2
    seen = torch.ones(1, 120, 30)
    calm = observe(rays, seen).roughness
    shaken = rays.clone()
    shaken[:, :, 5] += torch.randn(1, 120, 2) * 0.01
    rough = observe(shaken, seen).roughness
    assert calm.shape == (1, 120, 31) and (rough - calm)[..., 5].min() > 1 and (rough - calm)[..., :5].abs().max() < 0.1
    assert observe(rays[:, :1], seen[:, :1]).roughness.abs().max() == 0


def test_what_lasts_of_the_residuals_is_their_habit_and_not_their_motion():
    torch.manual_seed(5)
    habit = torch.randn(1, 1, 30, 2) * 0.02
    motion = 0.02 * torch.sin(torch.arange(90.0) / 90 * 6 * torch.pi)[None, :, None, None]
    residual = (habit + motion).repeat(1, 4, 1, 1)
    weight = torch.full((1, 360, 30), 40.0)
    weight[:, :, 3] = 0  # never seen
    found = _lasting(residual, weight)
    expected = habit.expand(1, 360, -1, -1).clone()
    expected[:, :, 3] = 0
    assert (found - expected)[:, 60:-60].abs().max() < 0.004 and found[:, :, 3].abs().max() == 0
    assert _lasting(residual[:, :1], weight[:, :1]).abs().max() == 0
    gone = residual.clone()
    gone[:, 180:] = 0  # another habit later does not reach far back
    assert torch.allclose(_lasting(gone, weight)[:, :119], found[:, :119], atol=1e-6)


def test_paper_gradient_equals_autograd_through_the_box_normalisation():
    torch.manual_seed(4)
    model = body()
    theta = (torch.randn(20, 72) * 0.4).requires_grad_()
    betas = torch.randn(20, 10)
    confidence = (torch.rand(20, 18) < 0.8).float() * torch.rand(20, 18).clamp_min(0.1)
    seen = confidence >= paper.SEEN
    x = paper.normalise(torch.randn(20, 18, 2), seen)
    posed = paper.pose_body(theta, betas, model)
    points = paper.normalise(paper.project_fixed(paper.points18(posed)), seen)
    error = ((points - x).abs() * confidence[..., None]).mean((-1, -2)).sum()
    (expected,) = torch.autograd.grad(error, theta)
    points3d, visible = paper.points18(posed), seen[..., None]
    view = paper.look(paper.project_fixed(points3d), visible)
    found = paper.reprojection_gradient(theta.detach(), posed, points3d, view, x, confidence[..., None] * visible)
    assert torch.allclose(found, expected, atol=1e-5)
    assert found.abs().max() > 1e-3


def test_paper_network_has_the_published_number_of_parameters():
    assert sum(p.numel() for p in paper.PaperNet(1024).parameters()) == 17_449_144
