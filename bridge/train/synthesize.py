# SPDX-License-Identifier: GPL-3.0-or-later
"""From windows of motion to what a detector would see of them: bodies before cameras."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..body.landmarks import available_points
from ..body.smpl import BodyModel, Shaped
from ..keypoints.formats import POINTS
from ..rotations import exp_so3, quaternion_to_matrix
from . import arms, legs
from .data import Windows, chance, smooth_noise, uniform
from .recipe import Recipe
from .synthetic_detector import NOISE, detect


@dataclass
class Batch:
    """A synthetic batch. Camera frame is OpenCV's (x right, y down, z forward).

    rays (B, T, 30, 2) and confidence (B, T, 30) as detected, for the focal length told; rotations (B, T, 24, 3, 3) with
    the root in the camera frame; pelvis (B, T, 3) m; betas (B, 10); up (B, T, 3) the world's up in the camera frame;
    log_focal (B) log of true over told focal length; focal_known (B); static (B) camera does not move; contact_ok (B);
    layout (B) indices into LAYOUT_SHARE; joints,
    points: true positions (B, T, 24 / 30, 3) m.
    """

    rays: Tensor
    confidence: Tensor
    rotations: Tensor
    pelvis: Tensor
    betas: Tensor
    up: Tensor
    log_focal: Tensor
    focal_known: Tensor
    static: Tensor
    contact_ok: Tensor
    layout: Tensor
    joints: Tensor
    points: Tensor


class LandmarkSets:
    """Landmark offsets of several layouts, to be drawn clip by clip."""

    def __init__(self, body: BodyModel, layouts: list[str]):
        sets = [body.landmarks(name) for name in layouts]
        self.body, self.layouts = body, layouts
        self.offsets = torch.stack([s[0] for s in sets])
        self.directions = torch.stack([s[1] for s in sets])
        # Layouts may hang the neck on different joints; one parent table serves all of them in a batch.
        self.parents = sets[0][2]
        for i, (offset, direction, parents) in enumerate(sets):
            rest, shapes = body.joint_template, body.joint_shapes
            self.offsets[i] = offset + rest[parents] - rest[self.parents]
            self.directions[i] = direction + shapes[parents] - shapes[self.parents]
        self.available = torch.stack([torch.as_tensor(available_points(name)) for name in layouts])

    def shaped(self, betas: Tensor, layout: Tensor, shift: Tensor | float = 0.0) -> Shaped:
        """Shaped bodies for betas (B, 10) and layout indices (B), with a time axis of 1: rest (B, 1, 24, 3)."""
        offsets = self.offsets[layout] + torch.einsum("bkcs,bs->bkc", self.directions[layout], betas) + shift
        return Shaped(self.body.rest_joints(betas)[:, None], offsets[:, None], self.parents)


def synthesize(windows: Windows, sets: LandmarkSets, recipe: Recipe, gen: torch.Generator) -> Batch:
    """Project windows through random cameras and disturb what is seen as `recipe` says."""
    count, frames = windows.rotations.shape[:2]
    names = list(recipe.layouts)
    share = torch.tensor([recipe.layouts[n] for n in names])
    layout = torch.multinomial(share, count, replacement=True, generator=gen)
    layout = torch.tensor([sets.layouts.index(n) for n in names])[layout]
    betas = torch.randn(count, 10, generator=gen).clamp(-2.5, 2.5)
    waist = torch.zeros(count, dtype=torch.bool)
    if recipe.seated:
        windows = legs.seated(windows, chance(count, recipe.seated, gen), gen, rising=recipe.rising)
    if recipe.arms:
        windows = arms.reaching(windows, chance(count, recipe.arms, gen), gen)
    if recipe.waist:
        windows, waist = legs.standing(windows, chance(count, recipe.waist, gen), gen)
    kinds = NOISE[:, 1] / 0.025
    shift = torch.randn(count, len(POINTS), 3, generator=gen) * recipe.person_offset * kinds[:, None].clamp(0.7, 1.5)
    shaped = sets.shaped(betas, layout, shift)

    # World: Y up. The camera's axes in OpenCV's sense, seen from a yaw of zero: x right, y down, z forward.
    yaw = uniform((count,), 0, 2 * math.pi, gen)
    if recipe.facing:
        front = windows.rotations[:, frames // 2, 0, :, 2]
        towards = math.radians(15) * torch.randn(count, generator=gen) - torch.atan2(front[:, 0], front[:, 2])
        yaw = torch.where(chance(count, recipe.facing, gen), towards, yaw)
    zero = torch.zeros(count)
    spin = exp_so3(torch.stack((zero, yaw, zero), -1))
    free = torch.randn(count, 4, generator=gen)
    spin = torch.where(chance(count, recipe.any_root, gen)[:, None, None], quaternion_to_matrix(free), spin)
    pitch = (math.radians(5) + math.radians(22.5) * torch.randn(count, generator=gen)).clamp(-1.22, 1.22)
    if recipe.level:
        held = math.radians(3) + math.radians(6) * torch.randn(count, generator=gen)
        pitch = torch.where(chance(count, recipe.level, gen), held, pitch)
    roll = math.radians(7.5) * torch.randn(count, generator=gen)
    roll = torch.where(chance(count, 0.2, gen), uniform((count,), -math.pi / 6, math.pi / 6, gen), roll)
    base = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
    tilt = exp_so3(torch.stack((zero, zero, roll), -1)) @ exp_so3(torch.stack((pitch, zero, zero), -1)) @ base

    moving = chance(count, recipe.moving_camera, gen)
    drift = smooth_noise(count, frames, 3, 20, gen) * math.radians(4) * moving[:, None, None]
    world_to_cam = exp_so3(drift) @ tilt[:, None]
    up = world_to_cam[..., 1]
    rotations = windows.rotations.clone()
    rotations[:, :, 0] = world_to_cam @ spin[:, None] @ windows.rotations[:, :, 0]

    # The mocap's root is the midpoint of the hips; the body's is its pelvis joint.
    rest = shaped.rest[:, 0]
    leg = (rest[:, 1] - rest[:, 4]).norm(dim=-1) + (rest[:, 4] - rest[:, 7]).norm(dim=-1)
    template = sets.body.joint_template
    standard = (template[1] - template[4]).norm() + (template[4] - template[7]).norm()
    to_pelvis = rest[:, 0] - (rest[:, 1] + rest[:, 2]) / 2
    walk = windows.trans * (leg / standard)[:, None, None]
    walk = (walk[:, :, None] @ (world_to_cam @ spin[:, None]).transpose(-1, -2)).squeeze(-2)
    relative = walk + (rotations[:, :, 0] @ to_pelvis[:, None, :, None]).squeeze(-1)
    relative = relative - relative[:, frames // 2, None]

    focal = torch.exp(uniform((count,), *map(math.log, recipe.lenses), gen))  # over the image's longer side
    if recipe.usual_lens:
        usual = recipe.usual[0] * torch.exp(recipe.usual[1] * torch.randn(count, generator=gen))
        focal = torch.where(chance(count, recipe.usual_lens, gen), usual, focal)
    near = torch.rand(count, generator=gen) < 0.4
    depth = torch.where(near, uniform((count,), 1, 6, gen), uniform((count,), 4, 12, gen))
    framed = chance(count, recipe.frame_person, gen)
    fills = torch.exp(uniform((count,), math.log(0.2), math.log(1.5), gen))
    depth = torch.where(framed, (focal * 1.7 / fills).clamp(0.8, 25), depth)
    offset = torch.randn(count, 2, generator=gen) * 0.15 * (0.5 / focal)[:, None]
    offset = torch.where(framed[:, None], uniform((count, 2), -0.3, 0.3, gen) / focal[:, None], offset)
    centre = torch.cat((offset, torch.ones(count, 1)), -1) * depth[:, None]
    wander = smooth_noise(count, frames, 3, 20, gen) * 0.15 * moving[:, None, None]
    pelvis = centre[:, None] + relative + wander
    posed = shaped.posed(rotations, pelvis)
    nearest = posed.joints[..., 2].amin((1, 2))
    push = (0.5 - nearest).clamp_min(0)
    forward = torch.stack((offset[:, 0] * push, offset[:, 1] * push, push), -1)[:, None]
    pelvis = pelvis + forward
    joints, points = posed.joints + forward[:, :, None], posed.points + forward[:, :, None]

    rays, confidence, seen = detect(points, pelvis, focal, framed, waist, sets.available[layout], recipe, gen)

    factor, known = told_focal(focal, recipe, gen)
    return Batch(
        rays / factor[:, None, None, None], confidence, rotations, pelvis, betas, up, -factor.log(),
        known, (~moving).float(), windows.lower_true & ~moving, layout, joints, points,
    )  # fmt: skip


def told_focal(focal: Tensor, recipe: Recipe, gen: torch.Generator) -> tuple[Tensor, Tensor]:
    """What a solver is told of focal lengths (B) over the longer side: (B) told over true, and (B) 1 where it is said to be known."""
    count = len(focal)
    known = torch.rand(count, generator=gen)
    wrong = torch.exp(uniform((count,), math.log(0.8), math.log(1.25), gen))
    default = math.sqrt(1 + 0.6**2) / focal
    factor = torch.where(known < recipe.focal_exact, torch.ones(count), wrong)
    unknown = known > 1 - recipe.focal_unknown
    factor = torch.where(unknown, default, factor)
    return factor, (~unknown).float()
