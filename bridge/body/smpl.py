# SPDX-License-Identifier: GPL-3.0-or-later
"""SMPL-form bodies in torch, in three stages: model -> shaped -> posed.

`BodyModel` holds the template; `.shaped(betas)` fixes a person's rest joints and landmark offsets;
`.posed(rotations)` places joints and landmarks. Kinematics runs level by level over the joint tree. Skinning of the
whole mesh (`BodyModel.vertices`) is separate: fitting and training never need it.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..rotations import SHORT, components_first, components_last, cross, times
from . import joints as J
from .landmarks import landmark_offsets, skin_points, sole_offsets


@dataclass(frozen=True)
class Posed:
    """A posed body. joints: (..., 24, 3) m; points: (..., K, 3) m landmarks; world: (..., 24, 3, 3) joint rotations."""

    joints: Tensor
    points: Tensor
    world: Tensor


@dataclass(frozen=True)
class Shaped:
    """A person's rest skeleton. rest: (..., 24, 3) m; offsets: (..., K, 3) m landmark minus its parent joint."""

    rest: Tensor
    offsets: Tensor
    parents: Tensor

    def posed(self, rotations: Tensor, pelvis: Tensor | None = None) -> Posed:
        """Forward kinematics (SMPL, Loper et al. 2015, eq. 4).

        rotations: (..., 24, 3, 3) local; pelvis: (..., 3) m position of the pelvis joint, default the origin.
        rest and offsets must broadcast against rotations' leading dimensions.
        """
        lead = rotations.shape[:-3]
        if lead.numel() < SHORT:
            return self._posed_few(rotations, pelvis)
        rotations = components_first(rotations, lead, 3).permute(1, 2, 0, 3)
        bones = components_first(self.rest - self.rest[..., _PARENTS_0, :], lead, 2).transpose(0, 1)
        # [rotation | bone], so that one product turns both; SMPL numbers its joints level by level.
        local = torch.cat((rotations, bones[:, None]), 1)  # (3, 4, 24, N)
        frame = local[:, :3, :1]
        place = torch.zeros_like(bones[:, :1]) if pelvis is None else components_first(pelvis, lead, 1)[:, None]
        frames, places = [frame], [place]
        for level, above in _LEVELS:
            turned = times(frame[:, :, above], local[:, :, level])
            frame, place = turned[:, :3], place[:, above] + turned[:, 3]
            frames.append(frame)
            places.append(place)
        joints, frames = torch.cat(places, 1), torch.cat(frames, 2)
        offsets = components_first(self.offsets, lead, 2).transpose(0, 1)
        points = joints[:, self.parents] + times(frames[:, :, self.parents], offsets[:, None])[:, 0]
        return Posed(
            components_last(joints.transpose(0, 1), lead), components_last(points.transpose(0, 1), lead),
            components_last(frames.permute(2, 0, 1, 3), lead),
        )  # fmt: skip

    def _posed_few(self, rotations: Tensor, pelvis: Tensor | None) -> Posed:
        """`posed` in a third of the operations and several times the arithmetic: every joint's frame times the frame of the
        joint 1, 2, 4 and 8 levels above it."""
        lead, device = rotations.shape[:-3], rotations.device
        places = (self.rest - self.rest[..., _PARENTS_0, :]).expand(*lead, 24, 3)  # the pelvis's is zero
        if pelvis is not None:
            places = torch.cat((places[..., :1, :] + pelvis[..., None, :], places[..., 1:, :]), -2)
        frames = F.pad(torch.cat((rotations, places[..., None]), -1), (0, 0, 0, 1, 0, 1))  # a row more, a joint more
        frames = (frames + _AFFINE.to(frames)).reshape(-1, 25, 4, 4)
        for above in _JUMPS:
            over = frames.index_select(1, above.to(device)).view(-1, 4, 4)
            frames = torch.bmm(over, frames.view(-1, 4, 4)).view(-1, 25, 4, 4)
        frames = frames.unflatten(0, lead) if lead else frames[0]
        offsets = F.pad(self.offsets, (0, 1), value=1.0)
        points = (frames.index_select(-3, self.parents) * offsets[..., None, :]).sum(-1)[..., :3]
        return Posed(frames[..., :24, :3, 3], points, frames[..., :24, :3, :3])


_PARENTS_0 = torch.tensor([max(p, 0) for p in J.PARENTS])


def _levels() -> list[tuple[slice, slice | Tensor]]:
    """For each level of the tree but the first: its joints, and where their parents stand in the level above, as a slice
    where they are a run."""
    out: list[tuple[slice, slice | Tensor]] = []
    for upper, level in zip(J.LEVELS[:-1], J.LEVELS[1:]):
        at = [upper.index(J.PARENTS[j]) for j in level]
        run = at == list(range(at[0], at[0] + len(at)))
        out.append((slice(level[0], level[-1] + 1), slice(at[0], at[0] + len(at)) if run else torch.tensor(at)))
    return out


_LEVELS = _levels()


def _jumps() -> list[Tensor]:
    """For every joint, and one more that stands still, the joint 1, 2, 4 and 8 levels above it; the one more where there is none."""
    above, out = [J.PARENTS[j] if j else 24 for j in range(24)] + [24], []
    while min(above) < 24:
        out.append(torch.tensor(above))
        above = [above[a] for a in above]
    return out


_JUMPS = _jumps()
_AFFINE = F.pad(torch.eye(4)[None], (0, 0, 0, 0, 24, 0))  # of the joint that stands still, and the last row of all
_AFFINE[:24, 3, 3] = 1


def _below() -> np.ndarray:
    """(24, 24) 1 where the second joint lies in the first one's subtree, itself included."""
    below = np.eye(24, dtype=np.float32)
    for j in range(23, 0, -1):
        below[J.PARENTS[j]] += below[j]
    return below


BELOW = torch.tensor(_below())


def pull_back(posed: Posed, points: Tensor, parents: Tensor, forces: Tensor) -> tuple[Tensor, Tensor]:
    """Gradient of an energy with respect to every joint's rotation, in closed form (the Jacobian transposed).

    points: (..., K, 3) m points fixed to joints `parents` (K); forces: (..., K, 3) dE/dpoint.
    Returns dE/dw (..., 24, 3) for the update R_j <- R_j exp(w_j), and the sum of the forces below every joint
    (..., 24, 3); the pelvis's is dE/dpelvis.
    A turn w of joint j moves a point x of its subtree by (G_j w) x (x - p_j).
    """
    lead = forces.shape[:-2]
    if lead.numel() < SHORT:
        on = torch.cat((forces, torch.linalg.cross(points, forces)), -1)
        force, moment = (BELOW.to(forces)[:, parents] @ on).split(3, -1)
        torque = moment - torch.linalg.cross(posed.joints, force)
        return (posed.world * torque[..., None]).sum(-2), force
    first = lambda v: components_first(v, lead, 2).transpose(0, 1)  # noqa: E731
    forces, points = first(forces), first(points)  # (3, K, N)
    force, moment = (BELOW.to(forces)[:, parents] @ torch.cat((forces, cross(points, forces)))).split(3)
    torque = moment - cross(first(posed.joints), force)
    world = components_first(posed.world, lead, 3).permute(2, 1, 0, 3)  # transposed
    turn = times(world, torque[:, None])[:, 0]
    return components_last(turn.transpose(0, 1), lead), components_last(force.transpose(0, 1), lead)


def _along(directions: Tensor, betas: Tensor) -> Tensor:
    """What betas (..., 10) make of shape directions (K, 3, 10): (..., K, 3)."""
    return (betas @ directions.flatten(0, 1).T).unflatten(-1, directions.shape[:2])


class BodyModel:
    """An SMPL-form body model in torch.

    data: the dict of `bridge.body.files.load_body`. Buffers are float32 on `device`.
    """

    def __init__(self, data: dict, device: str | torch.device = "cpu"):
        template = np.asarray(data["v_template"], np.float64)
        shapes = np.asarray(data["shapedirs"], np.float64)[..., :10]
        regressor = np.asarray(data["J_regressor"], np.float64)
        self.id: str = str(data["id"])
        self.gender: str = str(data["gender"])
        self.device = torch.device(device)
        self.data = data
        self._f32 = lambda a: torch.as_tensor(np.ascontiguousarray(a), dtype=torch.float32, device=self.device)
        self.joint_template = self._f32(regressor @ template)
        self.joint_shapes = self._f32(np.einsum("jv,vck->jck", regressor, shapes))
        self._landmarks: dict[str, tuple[Tensor, Tensor, Tensor]] = {}

    def rest_joints(self, betas: Tensor) -> Tensor:
        """Rest joints (..., 24, 3) m for betas (..., 10)."""
        return self.joint_template + _along(self.joint_shapes, betas)

    def landmarks(self, layout: str) -> tuple[Tensor, Tensor, Tensor]:
        """Landmarks of the internal point set for a keypoint layout.

        Returns offsets (30, 3) m, their shape directions (30, 3, 10), and the parent joint of each (30).
        """
        if layout not in self._landmarks:
            offsets, directions, parents = landmark_offsets(self.data, layout)
            self._landmarks[layout] = (
                self._f32(offsets), self._f32(directions), torch.as_tensor(parents, device=self.device)
            )  # fmt: skip
        return self._landmarks[layout]

    @cached_property
    def soles(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """`sole_offsets` of this body."""
        return sole_offsets(self.data)

    @cached_property
    def skin(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """`skin_points` of this body."""
        return skin_points(self.data)

    def shaped(self, betas: Tensor, layout: str) -> Shaped:
        """The rest skeleton and landmark offsets for betas (..., 10) and a keypoint layout."""
        offsets, directions, parents = self.landmarks(layout)
        return Shaped(
            self.rest_joints(betas), offsets + _along(directions, betas), parents
        )

    def vertices(self, rotations: Tensor, betas: Tensor, trans: Tensor) -> Tensor:
        """Skinned mesh (F, V, 3) m (SMPL eqs. 2 to 10).

        rotations: (F, 24, 3, 3) local; betas: (10); trans: (F, 3) m, smplx's transl.
        """
        data, f32 = self.data, self._f32
        rest = f32(data["v_template"]) + f32(data["shapedirs"])[..., :10] @ betas
        posedirs = np.asarray(data["posedirs"])
        shaped = rest.expand(len(rotations), *rest.shape)
        if posedirs.any():
            feature = (rotations[:, 1:] - torch.eye(3, device=self.device)).flatten(1)
            shaped = shaped + torch.einsum("vcp,fp->fvc", f32(posedirs), feature)
        bones = self.rest_joints(betas)
        posed = self.shaped(betas, "smpl").posed(rotations, bones[0].expand(len(rotations), 3))
        weights = f32(data["weights"])
        turned = torch.einsum("vj,fjab->fvab", weights, posed.world)
        moved = posed.joints - (posed.world @ bones[:, :, None]).squeeze(-1)
        return (turned @ shaped[..., None]).squeeze(-1) + weights @ moved + trans[:, None]
