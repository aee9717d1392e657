# SPDX-License-Identifier: GPL-3.0-or-later
"""Learned gradient descent as published (Song, Chen, Hilliges, ECCV 2020), single frames.

State: axis-angle pose (72) and betas (10), no translation. Camera: fixed pinhole, f = 256, 6 m in front of the body, which
is y-up and faces it. Both the observed and the projected points are normalised by their own box. Two networks give the
first estimate from the points; two more, shared by all steps, give the update from points, pose and the detached
gradient of the reprojection error. Nothing else is optimised: no prior, no translation.

Deviations from the published code. Of the method, behind a switch: `PaperNet.blind` zeroes the gradient input (the ablation). Of
training: `PaperNet(dropout=0)`, since dropout keeps small networks from learning; `Phase.footage` and `Phase.updates`
(`train.config`); and without a switch the loop that both modes share (AdamW, a cosine, clipped gradients, averaged weights,
for Adam whose rate falls by a fifth an epoch), the widened poses of `train.data.Sampler`, and weights for gradients that begin six
times as large. What fits is the published network, its large matrices rounded to eight bits (`precision`).
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_linear_bn_eval

from ..body.smpl import BodyModel, Posed, pull_back
from ..keypoints.formats import POINT_INDEX, POINTS
from ..rotations import exp_so3, gradient_of_vector
from .precision import rounded

# The 18 points in the paper's order (COCO's with a neck): name of the internal point, SMPL joint or -1 for the surface.
POINTS18 = (
    ("nose", -1), ("neck", 12), ("right_shoulder", 17), ("right_elbow", 19), ("right_wrist", 21), ("left_shoulder", 16),
    ("left_elbow", 18), ("left_wrist", 20), ("right_hip", 2), ("right_knee", 5), ("right_ankle", 8), ("left_hip", 1),
    ("left_knee", 4), ("left_ankle", 7), ("right_eye", -1), ("left_eye", -1), ("right_ear", -1), ("left_ear", -1),
)  # fmt: skip
INTERNAL = [POINT_INDEX[name] for name, _ in POINTS18]
WEIGHTS18 = torch.tensor([1.0, 1, 2, 4, 8, 2, 4, 8, 2, 4, 8, 2, 4, 8, 1, 1, 1, 1])
FOCAL, DISTANCE, RATE, SEEN = 256.0, 6.0, 0.1, 0.01
# Body's y-up frame to OpenCV's camera frame: a half turn about x.
TO_CAMERA = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
Y_DOWN = torch.tensor([1.0, -1.0])
OUTWARD = torch.tensor([-1.0, 1.0])[:, None, None, None]  # of a box's lower and upper corner


class _Layer(nn.Sequential):
    def __init__(self, inputs: int, width: int, dropout: float):
        super().__init__(nn.Linear(inputs, width), nn.BatchNorm1d(width), nn.PReLU(), nn.Dropout(dropout))


class _Residual(nn.Module):
    def __init__(self, width: int, dropout: float):
        super().__init__()
        self.layers = nn.Sequential(_Layer(width, width, dropout), _Layer(width, width, dropout))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


def _network(inputs: int, outputs: int, width: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        _Layer(inputs, width, dropout), _Residual(width, dropout), _Residual(width, dropout), nn.Linear(width, outputs)
    )


class _Rounded(nn.Module):
    """A linear layer whose weights are kept in eight bits (`precision`) and widened when they are used: for a single frame
    nearly all of the time goes into reading them. The layers share in `wide` what they are widened into, so that it stays in the
    processor's cache."""

    def __init__(self, layer: nn.Linear, wide: Tensor):
        super().__init__()
        weight, scale = rounded(layer.weight.detach())
        self.register_buffer("weight", weight)
        self.register_buffer("scale", scale[:, 0])
        self.register_buffer("wide", wide, persistent=False)
        self.bias = layer.bias

    def forward(self, x: Tensor) -> Tensor:
        return torch.addcmul(self.bias, F.linear(x, self.wide.copy_(self.weight)), self.scale)


class _Fused(nn.Module):
    """One of the networks for fitting alone: every batch normalisation folded into the layer before it, no dropout, matrices
    between features in eight bits, and no modules within modules, whose calls a single frame can tell."""

    def __init__(self, network: nn.Sequential, wide: Tensor):
        super().__init__()
        layers = [layer for layer in network.modules() if isinstance(layer, _Layer)]
        first, *hidden = (fuse_linear_bn_eval(layer[0], layer[1]) for layer in layers)
        self.first, self.last = first, network[-1]
        self.hidden = nn.ModuleList(_Rounded(layer, wide) for layer in hidden)
        self.slopes = [float(layer[2].weight) for layer in layers]

    def forward(self, x: Tensor) -> Tensor:
        first, *slopes = self.slopes
        x = F.leaky_relu(self.first.forward(x), first)
        y = x
        for k, (layer, slope) in enumerate(zip(self.hidden, slopes, strict=True)):
            y = F.leaky_relu(layer.forward(y), slope)
            if k % 2:  # the end of a residual block
                x = y = x + y
        return self.last.forward(x)


@dataclass
class Estimate:
    """theta (N, 72) rad; betas (N, 10); joints (N, 24, 3) m about SMPL's origin, camera axes; points (N, 18, 2) as
    normalised; points3d (N, 18, 3) m, body axes; reprojection (N) mean absolute error in boxes."""

    theta: Tensor
    betas: Tensor
    joints: Tensor
    points: Tensor
    points3d: Tensor
    reprojection: Tensor


@dataclass
class View:
    """Points in the paper's image. pixels: (N, 18, 2); points: (N, 18, 2) as normalised, 0.5 where not seen; edges: (2, N, 1, 2)
    the lower and the upper corner of the box of those seen; size: (N, 1, 2) from one to the other; side: (N, 1, 1) the longer."""

    pixels: Tensor
    points: Tensor
    edges: Tensor
    size: Tensor
    side: Tensor


def look(pixels: Tensor, seen: Tensor) -> View:
    """Box normalisation to [0, 1]. pixels: (N, 18, 2); seen: (N, 18, 1) bool."""
    low = torch.where(seen, pixels, 1e9).amin(-2, keepdim=True)
    high = torch.where(seen, pixels, -1e9).amax(-2, keepdim=True)
    size = high - low
    side = size.amax(-1, keepdim=True).clamp_min(1e-6)
    normal = torch.where(seen, (pixels - (low + high) / 2) / side + 0.5, 0.5)
    return View(pixels, normal, torch.stack((low, high)), size, side)


def normalise(points: Tensor, seen: Tensor) -> Tensor:
    """Box normalisation to [0, 1]. points: (N, 18, 2); seen: (N, 18) bool; points not seen become 0.5."""
    return look(points, seen[..., None]).points


def _share(hit: Tensor, dim: int) -> Tensor:
    """Ones over their number along `dim`: several points at an edge share its motion."""
    return hit / hit.sum(dim, keepdim=True).clamp_min(1)


class PaperNet(nn.Module):
    """The four networks. 17,449,144 parameters at width 1024. dropout: in training; the published share by default."""

    def __init__(self, width: int = 1024, dropout: float = 0.2):
        super().__init__()
        self.width, self.blind = width, False
        self.pose_first, self.shape_first = _network(36, 72, width, dropout), _network(36, 10, width, dropout)
        self.pose_update, self.shape_update = _network(180, 72, width, dropout), _network(180, 10, width, dropout)
        with torch.no_grad():  # a gradient of a mean over 36 coordinates is small beside pose and points: begin by seeing it
            for network in (self.pose_update, self.shape_update):
                network[0][0].weight[:, 108:] *= 6

    def fuse(self) -> "PaperNet":
        """For fitting alone (`_Fused`)."""
        self.eval()
        wide = self.pose_first[0][0].weight.new_empty(self.width, self.width)
        for name in ("pose_first", "shape_first", "pose_update", "shape_update"):
            setattr(self, name, _Fused(getattr(self, name), wide))
        return self

    def forward(
        self, keypoints: Tensor, confidence: Tensor, body: BodyModel, steps: int = 3,
        start: tuple[Tensor, Tensor] | None = None,
    ) -> list[Estimate]:  # fmt: skip
        """Estimates of steps 0..steps.

        keypoints: (N, 18, 2) px or rays, y down; confidence: (N, 18); start: (theta (N, 72), betas (N, 10)) instead of
        the first networks' estimate.
        """
        seen = (confidence >= SEEN)[..., None]
        weight = confidence[..., None]
        x = look(keypoints, seen).points
        flat = x.flatten(1)
        if start is None:
            theta, betas = self.pose_first(flat), self.shape_first(flat)
        else:
            theta, betas = start
        estimates = []
        for k in range(steps + 1):
            posed = pose_body(theta, betas, body)
            points3d = points18(posed)
            view = look(project_fixed(points3d), seen)
            error = ((view.points - x).abs() * weight).mean((-1, -2))
            estimates.append(Estimate(theta, betas, posed.joints * TO_CAMERA.to(theta).diagonal(), view.points, points3d, error))
            if k == steps:
                break
            gradient = reprojection_gradient(theta, posed, points3d, view, x, weight * seen)
            if self.blind:
                gradient = torch.zeros_like(gradient)
            features = torch.cat((flat, theta.detach(), gradient), -1)
            theta = theta + RATE * self.pose_update(features)
            betas = betas + RATE * self.shape_update(features)
        return estimates


def pose_body(theta: Tensor, betas: Tensor, body: BodyModel) -> Posed:
    """The body about SMPL's own origin, y up. theta: (N, 72); betas: (N, 10)."""
    shaped = body.shaped(betas, "smpl")
    return shaped.posed(exp_so3(theta.unflatten(-1, (24, 3))), shaped.rest[..., 0, :])


def points18(posed: Posed) -> Tensor:
    """The paper's 18 points of a posed body (N, 18, 3) m."""
    return torch.cat((posed.points, posed.joints), -2).index_select(-2, ROWS18.to(posed.joints.device))


# Where they stand among the internal points and, after these, the joints.
ROWS18 = torch.tensor(
    [internal if joint < 0 else len(POINTS) + joint for (_, joint), internal in zip(POINTS18, INTERNAL, strict=True)]
)
# The joint each of the 18 points moves with.
PARENTS18 = torch.tensor([15 if joint < 0 else joint for _, joint in POINTS18])


def project_fixed(points: Tensor) -> Tensor:
    """The paper's camera: (N, 18, 3) m, y up, to (N, 18, 2) px, y down."""
    depth = (DISTANCE - points[..., 2:]).clamp_min(0.5)
    return points[..., :2] * (FOCAL * Y_DOWN.to(points)) / depth


@torch.no_grad()
def reprojection_gradient(theta: Tensor, posed: Posed, points3d: Tensor, view: View, x: Tensor, weight: Tensor) -> Tensor:
    """Gradient (N, 72) of each frame's confidence-weighted mean L1 reprojection error with respect to the pose.

    points3d: `points18` of the body; view: of them; weight: (N, 18, 1) confidence, 0 where not seen. The mean runs over the
    36 coordinates of a frame: the published code's batch mean times the batch size. The box normalisation is differentiated too.
    """
    pull = torch.sign(view.points - x) * (weight / x[0].numel())
    # A point at the box's edge also moves the box's centre, and stretches it along its longer side.
    at_edges = _share((view.pixels == view.edges) & (weight > 0), -2)
    stretch = _share(view.size == view.side, -1) * (pull * (view.points - 0.5)).sum((-1, -2), keepdim=True)
    at_edge = pull.sum(-2, keepdim=True) / 2 + OUTWARD.to(stretch) * stretch
    depth = (DISTANCE - points3d[..., 2:]).clamp_min(0.5)
    across = (pull - (at_edges * at_edge).sum(0)) * (FOCAL * Y_DOWN.to(theta)) / (view.side * depth)
    force = torch.cat((across, (across * points3d[..., :2]).sum(-1, keepdim=True) / depth), -1)
    turn, _ = pull_back(posed, points3d, PARENTS18.to(force.device), force)
    return gradient_of_vector(theta.unflatten(-1, (24, 3)), turn).flatten(1)


def select_points(keypoints: Tensor, confidence: Tensor) -> tuple[Tensor, Tensor]:
    """The paper's 18 of the internal 30 points. (N, 30, 2), (N, 30) -> (N, 18, 2), (N, 18)."""
    return keypoints[:, INTERNAL], confidence[:, INTERNAL]
