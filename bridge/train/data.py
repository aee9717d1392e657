# SPDX-License-Identifier: GPL-3.0-or-later
"""Motion capture for training: load the clips, draw windows of poses, recombine and widen them.

Everything is vectorised over the batch in torch. A window is (B, T) frames at 30 fps in a Y-up world.
"""

import functools
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..body import joints as J
from ..body.smpl import BodyModel
from ..errors import LgdError
from ..lgd.mirror import TURNS
from ..rotations import exp_so3, log_so3, matrix_to_quaternion, quaternion_to_matrix

LEG_OF_FILE = 0.784  # metres hip-knee-ankle of the body the mocap was retargeted to
VAL_PLAIN, VAL_HARD, VAL_WALK = ("03", "55"), ("85", "cmu131"), ("07",)
RARE_SOURCES = ("quaternius", "mesh2motion", "kaykit")
RARE_SUBJECTS = ("88", "90")
UPPER = (3, 6, 9, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23)
LEFT_ARM, RIGHT_ARM = (13, 16, 18, 20, 22), (14, 17, 19, 21, 23)
LEFT_LEG, RIGHT_LEG = (1, 4, 7, 10), (2, 5, 8, 11)
THIGHS, SHINS, UPPER_ARMS, FOREARMS = (1, 2), (4, 5, 7, 8, 10, 11), (13, 14, 16, 17), (18, 19, 20, 21, 22, 23)
SPARSE_JOINTS = (1, 2, 4, 5, 7, 8, 9, 12, 15, 16, 17, 18, 19, 20, 21)
# 0 draws poses as often as they were captured; trunks more than 45 degrees off upright then are 16 % of the draw, 36 % at 1, 60 % at 2.
SPARSE_POWER = 0.7


def data_folder() -> Path:
    """The folder of training and test data: LGD_DATA, else ../shared/data beside the checkout."""
    return Path(os.environ.get("LGD_DATA") or Path(__file__).resolve().parents[3] / "shared" / "data")


def shared_mocap(folder: Path | None = None) -> Path:
    """Where the shared motion capture lies, or should."""
    return (folder or data_folder()) / "mocap" / "mocap_30fps.npz"


def generator(seed: int) -> torch.Generator:
    """A seeded generator on the default device."""
    return torch.Generator(torch.get_default_device()).manual_seed(seed)


@dataclass
class Mocap:
    """Clips in flat arrays. quats (N, 24, 4) sign-continuous in a clip; trans (N, 3) m hip midpoint, Y up."""

    quats: Tensor
    trans: Tensor
    ok: Tensor
    start: Tensor
    length: Tensor
    grounded: Tensor
    subject: list[str]
    source: list[str]
    split: list[str]

    @property
    def clip_of_frame(self) -> Tensor:
        return torch.repeat_interleave(torch.arange(len(self.start)), self.length)

    def select(self, clips: list[int]) -> "Mocap":
        """A Mocap of the given clips only."""
        rows = torch.cat([torch.arange(int(self.start[c]), int(self.start[c] + self.length[c])) for c in clips])
        length = self.length[clips]
        return Mocap(
            self.quats[rows], self.trans[rows], self.ok[rows], torch.cumsum(length, 0) - length, length,
            self.grounded[clips], *([[names[c] for c in clips] for names in (self.subject, self.source, self.split)]),
        )  # fmt: skip

    def of_split(self, split: str) -> "Mocap":
        return self.select([i for i, s in enumerate(self.split) if s == split])

    def joined(self, other: "Mocap") -> "Mocap":
        """The clips of both."""
        tensors = {n: torch.cat((getattr(self, n), getattr(other, n))) for n in ("quats", "trans", "ok", "length", "grounded")}
        lists = {n: getattr(self, n) + getattr(other, n) for n in ("subject", "source", "split")}
        start = torch.cumsum(tensors["length"], 0) - tensors["length"]
        return Mocap(start=start, **tensors, **lists)

    def validating(self, subjects: tuple[str, ...]) -> "Mocap":
        """The clips of the given subjects; where there are none, all that are kept from training."""
        return self.of_subjects(subjects) if set(subjects) & set(self.subject) else self.of_split("val")

    def of_subjects(self, subjects: tuple[str, ...]) -> "Mocap":
        return self.select([i for i, s in enumerate(self.subject) if s in subjects])


def continuous_quaternions(matrices: Tensor) -> Tensor:
    """Quaternions (F, ..., 4) of one clip's rotations (F, ..., 3, 3), each on its predecessor's side."""
    q = matrix_to_quaternion(matrices)
    if len(q) > 1:
        flips = torch.sign((q[1:] * q[:-1]).sum(-1))
        flips = torch.where(flips == 0, torch.ones_like(flips), flips)
        q[1:] = q[1:] * torch.cumprod(flips, 0)[..., None]
    return q


def leg_length(body: BodyModel) -> float:
    """Metres hip-knee-ankle of the mean body."""
    rest = body.joint_template
    return float((rest[1] - rest[4]).norm() + (rest[4] - rest[7]).norm())


def load_mocap(body: BodyModel, folder: Path | None = None) -> Mocap:
    """The shared mocap file, root translation scaled to `body`'s leg length.

    Raises LgdError where the file is missing.
    """
    path = shared_mocap(folder)
    if not path.is_file():
        raise LgdError(
            "bad_input", f"The training data {path.name} was not found in {path.parent}.",
            "Set LGD_DATA to the folder that contains the folders mocap, footage and multiview.",
        )  # fmt: skip
    file = np.load(path, allow_pickle=False)
    rotations = exp_so3(torch.as_tensor(file["pose_aa"].astype(np.float32)).reshape(-1, 24, 3))
    start, length = torch.as_tensor(file["start"]), torch.as_tensor(file["length"])
    quats = torch.cat([continuous_quaternions(rotations[s : s + n]) for s, n in zip(start.tolist(), length.tolist())])
    trans = torch.as_tensor(file["trans"].astype(np.float32)) * (leg_length(body) / LEG_OF_FILE)
    return Mocap(
        quats, trans, torch.as_tensor(file["ok"]), start, length, torch.as_tensor(file["grounded"]),
        file["subject"].tolist(), file["source"].tolist(), file["split"].tolist(),
    )  # fmt: skip


@dataclass
class Windows:
    """Drawn windows. rotations (B, T, 24, 3, 3) world Y-up; trans (B, T, 3) m hip midpoint; lower_true (B) the legs
    and root are as captured on flat ground (contact labels hold)."""

    rotations: Tensor
    trans: Tensor
    lower_true: Tensor


class Sampler:
    """Draws augmented windows from a Mocap.

    Rare frames (floor, crouch, kick, upside down, and whatever few other frames are like) and rare sources are
    oversampled; subjects weigh by frames^0.7 so that walking does not drown the rest.
    """

    def __init__(self, mocap: Mocap, body: BodyModel, widen: bool = True):
        self.mocap, self.widen = mocap, widen
        self.clip = mocap.clip_of_frame
        self.first = mocap.start[self.clip]
        self.last = (mocap.start + mocap.length - 1)[self.clip]
        self.body = body
        vectors = log_so3(quaternion_to_matrix(mocap.quats))
        train_ok = mocap.ok
        quantiles = torch.tensor([0.001, 0.999])
        limits = [torch.quantile(vectors[train_ok][::3, j], quantiles, dim=0) for j in range(24)]
        low, high = torch.stack(limits, 1).flatten(1)
        ends = torch.stack((low, high, TURNS(low), TURNS(high)))  # the same for both sides
        self.limits = torch.stack((ends.amin(0), ends.amax(0))).unflatten(1, (24, 3))  # (2, 24, 3)

    @functools.cached_property
    def weights(self) -> Tensor:
        """Chance of every frame to be drawn, float64; found when first asked for, since it takes seconds."""
        m = self.mocap
        posed = self.body.shaped(torch.zeros(10), "smpl").posed(quaternion_to_matrix(m.quats))
        trunk = posed.joints[:, 9] - posed.joints[:, 0]
        tilt = trunk[:, 1] / trunk.norm(dim=-1)
        feet = torch.minimum(posed.joints[:, 7, 1], posed.joints[:, 8, 1])
        crouch = feet > -0.55
        kick = torch.maximum(posed.joints[:, 7, 1], posed.joints[:, 8, 1]) > -0.35
        hands_up = torch.maximum(posed.joints[:, 20, 1], posed.joints[:, 21, 1]) > 0.55
        rare = 1 + 2.0 * (tilt < 0.7) + 1.5 * crouch + 1.5 * kick + 0.7 * hands_up
        subjects = np.array(m.subject)
        frames = {s: float(m.length[torch.as_tensor(subjects == s)].sum()) for s in set(m.subject)}
        per_clip = torch.tensor([frames[s] ** -0.3 for s in m.subject])
        boost = torch.tensor([
            3.0 if any(r in src for r in RARE_SOURCES) or s in RARE_SUBJECTS else 1.0
            for s, src in zip(m.subject, m.source)
        ])  # fmt: skip
        weights = (per_clip * boost)[self.clip] * rare * sparseness(posed.joints, m.ok) ** SPARSE_POWER * m.ok
        return (weights / weights.sum()).double()

    def _read(self, count: int, frames: int, gen: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Windows straight from the clips: quats (B, T, 24, 4), trans (B, T, 3), centre frame (B)."""
        centre = torch.multinomial(self.weights, count, replacement=True, generator=gen)
        speed = torch.exp((torch.rand(count, generator=gen) * 2 - 1) * np.log(1.5))
        speed = torch.where(torch.rand(count, generator=gen) < 0.1, -speed, speed)
        shift = torch.arange(frames) - (frames - 1) / 2 + torch.rand(count, 1, generator=gen) - 0.5
        at = centre[:, None] + (speed[:, None] * shift if frames > 1 else torch.zeros(count, 1))
        at = at.clamp(self.first[centre, None], self.last[centre, None])
        low = at.floor().long()
        high = torch.minimum(low + 1, self.last[centre, None])
        s = (at - low)[..., None]
        a, b = self.mocap.quats[low], self.mocap.quats[high]
        quats = a + (b - a) * s[..., None]
        trans = self.mocap.trans[low] * (1 - s) + self.mocap.trans[high] * s
        return quats, trans, centre

    def draw(self, count: int, frames: int, gen: torch.Generator) -> Windows:
        """`count` windows of `frames` frames, mirrored, time-warped, recombined and widened."""
        quats, trans, centre = self._read(count, frames, gen)
        trans = trans - trans[:, frames // 2, None] * torch.tensor([1.0, 0.0, 1.0])
        lower_true = self.mocap.grounded[self.clip[centre]]
        if self.widen:
            quats, kept = self._recombine(quats, gen)
            lower_true = lower_true & kept
        flip = torch.rand(count, generator=gen) < 0.5
        mirrored = quats[:, :, list(J.MIRROR)] * torch.tensor([1.0, 1.0, -1.0, -1.0])
        quats = torch.where(flip[:, None, None, None], mirrored, quats)
        trans = torch.where(flip[:, None, None], trans * torch.tensor([-1.0, 1.0, 1.0]), trans)
        rotations = quaternion_to_matrix(quats)
        if self.widen:
            rotations, noisy = self._perturb(rotations, frames, gen)
            lower_true = lower_true & ~noisy
        return Windows(rotations, trans, lower_true)

    def _recombine(self, quats: Tensor, gen: torch.Generator) -> tuple[Tensor, Tensor]:
        """Upper bodies, arms, legs or parts of them from other windows; and which windows kept both legs (B)."""
        count = len(quats)
        other = quats[torch.randperm(count, generator=gen)]
        third = quats[torch.randperm(count, generator=gen)]
        draw = torch.rand(count, generator=gen)
        out, kept = quats.clone(), torch.ones(count, dtype=torch.bool)
        for joints, source, low, high in (
            (UPPER, other, 0.0, 0.3), (LEFT_ARM, third, 0.2, 0.4), (RIGHT_ARM, third, 0.35, 0.5),
            (LEFT_LEG, other, 0.45, 0.53), (RIGHT_LEG, other, 0.53, 0.61), (THIGHS, other, 0.61, 0.67), (SHINS, third, 0.64, 0.7),
            (UPPER_ARMS, other, 0.7, 0.74), (FOREARMS, third, 0.72, 0.76),
        ):  # fmt: skip
            take = ((draw >= low) & (draw < high)).nonzero().squeeze(-1)
            index = torch.tensor(joints)
            out[take[:, None], :, index[None]] = source[take[:, None], :, index[None]]
            if joints in (LEFT_LEG, RIGHT_LEG, THIGHS, SHINS):
                kept[take] = False
        return out, kept

    def _perturb(self, rotations: Tensor, frames: int, gen: torch.Generator) -> tuple[Tensor, Tensor]:
        """Smooth rotation noise within the joint limits on 40 % of the windows, and slight noise on collars and hands.

        Only perturbed joints are recomputed through the logarithm.
        """
        count = len(rotations)
        noisy = torch.rand(count, generator=gen) < 0.4
        strength = torch.deg2rad(torch.rand(count, 1, 1, 1, generator=gen) * 25) * noisy[:, None, None, None]
        each = (torch.rand(count, 1, 24, 1, generator=gen) < 0.5).float()
        always = torch.zeros(24)
        always[[13, 14, 20, 21, 22, 23]] = torch.deg2rad(torch.tensor([6.0, 6, 10, 10, 8, 8]))
        scale = torch.maximum(strength * each, always[:, None].expand(count, 1, 24, 1))
        noise = smooth_noise(count, frames, 72, 12, gen).unflatten(-1, (24, 3)) * scale
        noise[:, :, 0] *= 0.5
        vectors = log_so3(rotations)
        low = torch.minimum(vectors, self.limits[0])
        high = torch.maximum(vectors, self.limits[1])
        moved = torch.maximum(torch.minimum(vectors + noise, high), low)
        moved[:, :, 0] = vectors[:, :, 0]
        out = exp_so3(moved)
        out[:, :, 0] = rotations[:, :, 0] @ exp_so3(noise[:, :, 0])
        return out, noisy


def sparseness(joints: Tensor, ok: Tensor) -> Tensor:
    """How far from each pose others begin, in [0.03, 0.4] m: the distance to the 21st nearest of 9,000 frames.

    joints (N, 24, 3) m in a Y-up world, compared about the pelvis and without heading; only frames `ok` (N) are compared with.
    """
    about = joints - joints[:, :1]
    across = about[:, 1] - about[:, 2]
    yaw = torch.atan2(across[:, 2], across[:, 0])
    level = exp_so3(torch.stack((torch.zeros_like(yaw), yaw, torch.zeros_like(yaw)), -1))
    poses = (about @ level.transpose(-1, -2))[:, SPARSE_JOINTS].flatten(1) / len(SPARSE_JOINTS) ** 0.5
    among = poses[ok]
    among = among[torch.randperm(len(among), generator=generator(0))[:9000]]
    nearest = min(21, len(among))
    distance = [torch.cdist(part, among).kthvalue(nearest, dim=1).values for part in poses.split(4000)]
    return torch.cat(distance).clamp(0.03, 0.4)


def smooth_noise(count: int, frames: int, size: int, every: int, gen: torch.Generator) -> Tensor:
    """Unit-variance noise that is smooth over time: Gaussian key values every `every` frames, cosine between.

    Returns (count, frames, size).
    """
    if frames == 1:
        return torch.randn(count, 1, size, generator=gen)
    keys = frames // every + 3
    values = torch.randn(count, keys, size, generator=gen)
    at = torch.arange(frames) / every + torch.rand(count, 1, generator=gen)
    low = at.floor().long()
    s = (1 - torch.cos(torch.pi * (at - low))) / 2
    rows = torch.arange(count)[:, None]
    a, b = values[rows, low], values[rows, low + 1]
    return a + (b - a) * s[..., None]


def ramp(count: int, frames: int, gen: torch.Generator) -> Tensor:
    """From 0 to 1 smoothly, in a third of a second to one and a half, somewhere in a window of 30 frames a second: (count, frames)."""
    takes = uniform((count, 1), 10, 45, gen)
    middle = uniform((count, 1), 0, max(frames - 1, 1), gen)
    s = ((torch.arange(frames) - middle) / takes + 0.5).clamp(0, 1)
    return s * s * (3 - 2 * s)


def uniform(shape, low: float, high: float, gen: torch.Generator) -> Tensor:
    """Numbers between low and high, of any shape."""
    return low + (high - low) * torch.rand(shape, generator=gen)


def chance(count: int, p: float, gen: torch.Generator) -> Tensor:
    """(count) bool, each true by the chance p."""
    return torch.rand(count, generator=gen) < p
