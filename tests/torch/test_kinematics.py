# SPDX-License-Identifier: GPL-3.0-or-later
"""Our batched kinematics and skinning against smplx, for the default body and one with pose correctives."""

import numpy as np
import pytest
import torch

from bridge.body import joints as J
from bridge.body.files import load_body
from bridge.body.landmarks import available_points, landmark_offsets, sole_offsets
from bridge.body.smpl import BodyModel
from bridge.keypoints.formats import LAYOUTS, POINT_INDEX, POINT_MIRROR, POINTS
from bridge.rotations import exp_so3, log_so3, resample_rotations, resample_values

smplx = pytest.importorskip("smplx")


def with_correctives(data: dict) -> dict:
    """The default body with pose correctives of the official kind, so that they are exercised too."""
    random = np.random.default_rng(3)
    return {**data, "posedirs": random.normal(0, 2e-3, data["posedirs"].shape)}


@pytest.mark.parametrize("correctives", [False, True])
def test_joints_and_vertices_equal_smplx(correctives):
    data = load_body()
    if correctives:
        data = with_correctives(data)
    reference = smplx.SMPL("", data_struct=smplx.utils.Struct(**data), batch_size=6)
    model = BodyModel(data)
    torch.manual_seed(0)
    pose, betas = torch.randn(6, 72) * 0.6, torch.randn(10)
    trans = torch.randn(6, 3)
    out = reference(
        betas=betas.expand(6, -1),
        global_orient=pose[:, :3],
        body_pose=pose[:, 3:],
        transl=trans,
        return_verts=True,
    )
    rotations = exp_so3(pose.unflatten(-1, (24, 3)))
    pelvis = model.rest_joints(betas)[0] + trans
    posed = model.shaped(betas, "smpl").posed(rotations, pelvis)
    assert (posed.joints - out.joints[:, :24]).abs().max() < 1e-5
    assert (model.vertices(rotations, betas, trans) - out.vertices).abs().max() < 1e-4
    surface = {"nose": 24, "right_eye": 25, "left_eye": 26, "right_ear": 27, "left_ear": 28}
    if not correctives:  # landmarks are rigid: they follow the skin where one bone alone moves it
        for name, index in surface.items():
            assert (posed.points[:, POINT_INDEX[name]] - out.joints[:, index]).norm(dim=-1).max() < 0.012, (
                name
            )


def test_tree_levels_cover_every_joint_after_its_parent():
    seen: set[int] = set()
    for level in J.LEVELS:
        assert all(J.PARENTS[j] in seen or J.PARENTS[j] < 0 for j in level)
        seen.update(level)
    assert seen == set(range(24))
    assert [J.MIRROR[m] for m in J.MIRROR] == list(range(24))


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_landmarks_are_symmetric_and_near_the_body(layout):
    data = load_body()
    offsets, _, parents = landmark_offsets(data, layout)
    rest = BodyModel(data).joint_template.numpy()
    place = rest[parents] + offsets
    have = available_points(layout)
    flipped = place[POINT_MIRROR] * np.array([-1, 1, 1])
    assert np.abs(place - flipped)[have].max() < 2e-3
    vertices = data["v_template"]
    for index in np.flatnonzero(have):
        assert np.linalg.norm(vertices - place[index], axis=-1).min() < 0.12, POINTS[index]


def test_soles_are_the_lowest_points_of_the_standing_body():
    data = load_body()
    offsets, _, joints = sole_offsets(data)
    soles = BodyModel(data).joint_template.numpy()[joints] + offsets
    assert np.abs(soles[:, 1] - data["v_template"][:, 1].min()).max() < 0.015
    assert soles[1, 2] > soles[0, 2] and soles[0, 0] > 0 > soles[2, 0]


def test_resampling_goes_through_the_samples_and_between_them_evenly():
    times = torch.tensor([0.0, 0.2, 0.4])
    matrices = exp_so3(torch.tensor([[0.0, 0, 0], [0, 1.0, 0], [0, 2.0, 0]]))
    out = resample_rotations(matrices, times, torch.tensor([-1.0, 0.0, 0.1, 0.3, 0.4, 9.0]))
    expected = exp_so3(
        torch.tensor([[0.0, 0, 0], [0, 0, 0], [0, 0.5, 0], [0, 1.5, 0], [0, 2.0, 0], [0, 2.0, 0]])
    )
    assert (out - expected).abs().max() < 1e-5
    line = resample_values(torch.tensor([0.0, 2.0, 4.0]), times, torch.tensor([0.1, 0.5]))
    assert torch.allclose(line, torch.tensor([1.0, 4.0]))


def test_smooth_resampling_meets_the_samples_without_a_kink():
    """A swing sampled at 30 Hz comes back at 120 Hz nearer to the swing than in straight lines, and with no jump in speed."""
    at = lambda t: exp_so3(torch.stack((0.9 * torch.sin(6 * t), 0.4 * torch.cos(5 * t), 0.2 * t), -1))  # noqa: E731
    times = torch.arange(0, 31, dtype=torch.float64) / 30
    fine = torch.arange(0, 121, dtype=torch.float64) / 120
    kinks, errors = {}, {}
    for smooth in (False, True):
        found = resample_rotations(at(times), times, fine, smooth)
        assert torch.allclose(found[::4], at(times), atol=1e-9)
        errors[smooth] = float(log_so3(found.transpose(-1, -2) @ at(fine)).norm(dim=-1)[4:-4].max())
        speed = log_so3(found[:-1].transpose(-1, -2) @ found[1:]) * 120
        kinks[smooth] = float((speed[1:] - speed[:-1]).norm(dim=-1)[4:-4].max())
    assert errors[True] < 0.2 * errors[False] and kinks[True] < 0.5 * kinks[False]
    uneven = torch.tensor([0.0, 0.1, 0.5, 0.6])
    square = resample_values(uneven**2, uneven, torch.tensor([0.25, 0.3]), True)
    assert torch.allclose(square, torch.tensor([0.25, 0.3]) ** 2, atol=1e-6)  # a parabola is met exactly
