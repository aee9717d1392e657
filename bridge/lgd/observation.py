# SPDX-License-Identifier: GPL-3.0-or-later
"""What a clip looks like to the video network: every frame seen by a virtual camera turned toward the person.

Pixels become rays through the focal length; a smoothed box round the person gives each frame a virtual camera whose
axis goes through the box's centre and whose unit is the box's size. What the network sees is thus the same wherever
in the image the person stands and whatever the lens; perspective enters through the box's angular size alone.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..keypoints.tracks import SEEN

BLOCK = 64  # frames that are averaged over time at once
BOX_SIGMA = 6.0  # frames at 30 fps over which the box is smoothed
LASTING = 60  # frames before and after over which habits of a detector are told
PERSON = 1.7  # m that a box of size 1 stands for at log-depth 0


@dataclass
class Observation:
    """points (B, T, 30, 2) in units of the box, 0 where not seen; confidence (B, T, 30); turn (B, T, 3, 3) camera to
    virtual camera; size (B, T, 1) the box's angular size (tangent); centre (B, T, 2) ray of the box's centre;
    valid (B, T) at least three points seen; velocity (B, T, 30, 2) motion across the image in boxes a frame, 0 where a
    neighbour is not seen; roughness (B, T, 31) how much each point, and all together, shake over the seconds around: log of
    the mean change of velocity in hundredths of a box a frame^2."""

    points: Tensor
    confidence: Tensor
    turn: Tensor
    size: Tensor
    centre: Tensor
    valid: Tensor
    velocity: Tensor
    roughness: Tensor


def smooth_weighted(values: Tensor, weights: Tensor, sigma: float) -> Tensor:
    """Gaussian average over time with weights; falls back to wider averages where nothing is near.

    values: (B, T, C), weights: (B, T). Returns (B, T, C).
    """
    frames = values.shape[1]
    if frames == 1:
        return values
    radius, block = min(int(3 * sigma), frames - 1), min(BLOCK, frames)
    stacked = torch.cat((values * weights[..., None], weights[..., None]), -1)
    blocks = -(-frames // block)
    padded = torch.nn.functional.pad(stacked, (0, 0, radius, radius + blocks * block - frames))
    # Every block of frames is one product of the same band matrix with the frames around: faster than a convolution.
    away = torch.arange(-radius, radius + 1, dtype=values.dtype, device=values.device)
    kernel = (away.square() * (-0.5 / sigma**2)).exp()
    row = torch.nn.functional.pad(kernel, (0, block))  # repeated, each time it stands one further to the right
    band = row.repeat(block)[:-block].view(block, len(row) - 1)
    around = padded.unfold(1, block + 2 * radius, block).transpose(-1, -2)  # (B, blocks, block + 2 radius, C + 1)
    summed = (band @ around).flatten(1, 2)[:, :frames]
    total = stacked.sum(1, keepdim=True)
    wide = 1e-4
    mean = wide * total[..., :-1] / total[..., -1:].clamp_min(1e-6)
    return (summed[..., :-1] + mean) / (summed[..., -1:] + wide)


def running_mean(values: Tensor, weights: Tensor, prior: float, value: float = 0.0) -> Tensor:
    """Mean over LASTING frames before and after, drawn to `value` as by `prior` of weight.

    values: (B, T, K, C), weights: (B, T, K). Returns (B, T, K, C).
    """
    frames = values.shape[1]
    sums = torch.cat((values * weights[..., None], weights[..., None]), -1).cumsum(1)
    sums = torch.nn.functional.pad(sums, (0, 0, 0, 0, 1, 0))
    at = torch.arange(frames, device=values.device)
    around = sums[:, (at + LASTING + 1).clamp_max(frames)] - sums[:, (at - LASTING).clamp_min(0)]
    return (around[..., :-1] + prior * value) / (around[..., -1:] + prior)


def observe(rays: Tensor, confidence: Tensor, smooth: float = BOX_SIGMA) -> Observation:
    """Boxes, virtual cameras and normalised points.

    rays: (B, T, 30, 2) = ((u - cx) / f, (v - cy) / f); confidence: (B, T, 30) in [0, 1].
    """
    seen = confidence > SEEN
    count = seen.sum(-1)
    valid = count >= 3
    far = torch.full_like(rays, 1e6)
    low = torch.where(seen[..., None], rays, far).amin(-2)
    high = torch.where(seen[..., None], rays, -far).amax(-2)
    centre = torch.where(valid[..., None], (low + high) / 2, torch.zeros_like(low))
    size = torch.where(valid, (high - low).amax(-1), torch.ones_like(low[..., 0])).clamp(1e-4, 1e2)
    most = count.amax(1, keepdim=True).clamp_min(1)
    weights = valid * (count / most) ** 2
    packed = smooth_weighted(torch.cat((centre, size.log()[..., None]), -1), weights.to(rays.dtype), smooth)
    centre, size = packed[..., :2], packed[..., 2:].exp()
    turn = look_at(centre)
    ahead = torch.cat((rays, torch.ones_like(rays[..., :1])), -1) @ turn.transpose(-1, -2)
    points = ahead[..., :2] / ahead[..., 2:].clamp_min(0.05) / size[..., None]
    points = torch.where(seen[..., None], points, torch.zeros_like(points)).clamp(-4, 4)
    confidence = torch.where(seen, confidence, torch.zeros_like(confidence))
    return Observation(
        points, confidence, turn, size, centre, valid, _velocity(rays, seen, size), _roughness(rays, seen, size)
    )


def _velocity(rays: Tensor, seen: Tensor, size: Tensor) -> Tensor:
    """Central differences over time, where both neighbours are seen."""
    out = torch.zeros_like(rays)
    if rays.shape[1] > 2:
        both = (seen[:, 2:] & seen[:, :-2])[..., None]
        step = (rays[:, 2:] - rays[:, :-2]) / 2 / size[:, 1:-1, None]
        out[:, 1:-1] = torch.where(both, step, torch.zeros_like(step)).clamp(-0.2, 0.2)
    return out


def _roughness(rays: Tensor, seen: Tensor, size: Tensor) -> Tensor:
    """Of a detector's points what its noise is most easily told by."""
    rough = torch.zeros_like(rays[..., 0])
    if rays.shape[1] > 2:
        change = (rays[:, 2:] - 2 * rays[:, 1:-1] + rays[:, :-2]) / size[:, 1:-1, None]
        three = (seen[:, 2:] & seen[:, 1:-1] & seen[:, :-2]).to(rays)
        change = torch.nn.functional.pad(change.norm(dim=-1).clamp_max(0.05), (0, 0, 1, 1))
        mean = running_mean(change[..., None], torch.nn.functional.pad(three, (0, 0, 1, 1)), 2.0, 0.01)
        rough = (mean.squeeze(-1) / 0.01 + 0.02).log()
    return torch.cat((rough, rough.mean(-1, keepdim=True)), -1)


def look_at(ray: Tensor) -> Tensor:
    """Rotation that brings the ray (x, y, 1) onto the axis without rolling. ray: (..., 2) -> (..., 3, 3)."""
    z = torch.cat((ray, torch.ones_like(ray[..., :1])), -1)
    z = z / z.norm(dim=-1, keepdim=True)
    down = torch.zeros_like(z)
    down[..., 1] = 1
    x = torch.linalg.cross(down, z, dim=-1)
    x = x / x.norm(dim=-1, keepdim=True).clamp_min(1e-6)
    return torch.stack((x, torch.linalg.cross(z, x, dim=-1), z), -2)


def place_pelvis(tau: Tensor, size: Tensor) -> Tensor:
    """Pelvis in the virtual camera's frame. tau: (..., 3) = log depth, dx, dy in boxes; size (..., 1). -> (..., 3) m."""
    depth = PERSON / size * tau[..., :1].exp()
    return torch.cat((tau[..., 1:] * size * depth, depth), -1)


def locate_pelvis(pelvis: Tensor, size: Tensor) -> Tensor:
    """The tau of a pelvis position: inverse of `place_pelvis`."""
    depth = pelvis[..., 2:].clamp_min(0.1)
    return torch.cat(((depth * size / PERSON).log(), pelvis[..., :2] / depth / size), -1)


def project(points: Tensor, size: Tensor) -> Tensor:
    """Points (..., K, 3) of the virtual camera's frame to box units (..., K, 2). size: (..., 1)."""
    return points[..., :2] / points[..., 2:].clamp_min(0.1) / size[..., None]
