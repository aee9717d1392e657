# SPDX-License-Identifier: GPL-3.0-or-later
"""From windows of motion to what a detector would see of them: bodies, cameras, noise, confidence, gaps.

The noise tables restate WHAM's stage-1 synthesis (Shin et al. 2024, MIT) and MotionBERT's 2D drift and confidence model
(Zhu et al. 2023, Apache-2.0).
"""

import math
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ..body.landmarks import available_points
from ..body.smpl import BodyModel, Shaped
from ..keypoints.formats import POINT_INDEX, POINT_MIRROR, POINTS
from ..rotations import exp_so3, quaternion_to_matrix
from .data import Windows, smooth_noise

LAYOUT_SHARE = {"coco17": 0.2, "halpe26": 0.12, "body25": 0.12, "body25b": 0.2, "blazepose33": 0.36}

# sigma in m by kind of point: white jitter, bias of a window, peak size, chance of peaks
_NOISE = {
    "nose": (0.010, 0.040, 0.024, 0.10), "eye": (0.005, 0.010, 0.024, 0.10), "ear": (0.005, 0.010, 0.024, 0.10),
    "head_top": (0.010, 0.025, 0.024, 0.10), "neck": (0.012, 0.015, 0.045, 0.05),
    "shoulder": (0.015, 0.015, 0.045, 0.05), "elbow": (0.010, 0.025, 0.075, 0.025), "wrist": (0.005, 0.035, 0.12, 0.017),
    "hip": (0.020, 0.010, 0.024, 0.05), "knee": (0.010, 0.015, 0.09, 0.025), "ankle": (0.005, 0.025, 0.12, 0.017),
    "toe": (0.010, 0.025, 0.12, 0.017), "heel": (0.010, 0.025, 0.12, 0.017),
    "index": (0.010, 0.035, 0.12, 0.017), "pinky": (0.010, 0.035, 0.12, 0.017),
}  # fmt: skip


def _kind(name: str) -> str:
    if name in _NOISE:
        return name
    last = name.rsplit("_", 1)[-1]
    return last


NOISE = torch.tensor([_NOISE[_kind(name)] for name in POINTS])  # (30, 4)
MIRROR = torch.as_tensor(POINT_MIRROR.copy())


def _rows(*names: str) -> Tensor:
    return torch.tensor([POINT_INDEX[n] for n in names])


FACE = _rows("nose", "left_eye", "right_eye", "left_ear", "right_ear", "head_top")
FEET = _rows("left_big_toe", "left_small_toe", "left_heel", "right_big_toe", "right_small_toe", "right_heel")
HANDS = _rows("left_index", "left_pinky", "right_index", "right_pinky")
ARMS = [_rows(*(f"{s}_{p}" for p in ("shoulder", "elbow", "wrist", "index", "pinky"))) for s in ("left", "right")]
LEGS = [_rows(*(f"{s}_{p}" for p in ("knee", "ankle", "big_toe", "small_toe", "heel"))) for s in ("left", "right")]
HIPS = _rows("left_hip", "right_hip", "mid_hip")
_CHILDREN = {
    "shoulder": ("elbow", "wrist", "index", "pinky"), "elbow": ("wrist", "index", "pinky"), "wrist": ("index", "pinky"),
    "hip": ("knee", "ankle", "big_toe", "small_toe", "heel"), "knee": ("ankle", "big_toe", "small_toe", "heel"),
    "ankle": ("big_toe", "small_toe", "heel"),
}  # fmt: skip


def _hides() -> Tensor:
    """(30, 30) 1 where hiding the first point hides the second: down the limbs."""
    table = torch.eye(len(POINTS))
    for side in ("left", "right"):
        for part, below in _CHILDREN.items():
            for child in below:
                table[POINT_INDEX[f"{side}_{part}"], POINT_INDEX[f"{side}_{child}"]] = 1
    return table


HIDES = _hides()


@dataclass(frozen=True)
class Recipe:
    """How hard the synthetic detector is. Training draws all of it; evaluation fixes it."""

    noise: tuple[float, float] = (0.3, 1.5)  # gain of WHAM's tables, uniform
    own_noise: float = 2.0  # every point's noise in a clip is up to so many times more or less than the tables say
    drift: float = 1.0
    missing: tuple[float, float] = (0.0, 0.25)  # chance of each point a frame, uniform a clip
    down_the_tree: float = 0.03
    limb_spans: float = 0.5
    crop_lower: float = 0.1
    waist: float = 0.2  # share of clips, of upright people, who stand and are seen to the waist: nobody knows their legs
    nobody: float = 0.05
    limb_swap: float = 0.1
    body_swap: float = 0.05
    drop_sets: float = 0.2
    person_offset: float = 0.012
    moving_camera: float = 0.2
    any_root: float = 0.15
    facing: float = 0.3  # share of clips in which the person faces the camera, as those who film themselves do
    level: float = 0.5  # share of cameras held nearly level
    frame_person: float = 0.35  # share of cameras placed so that the person fills part of the image, with cropping
    usual_lens: float = 0.65  # share of lenses as phones and camcorders have them; the rest are
    lenses: tuple[float, float] = (0.45, 2.5)  # drawn from all of these, in longer sides of the picture
    focal_exact: float = 0.6
    focal_unknown: float = 0.15
    layouts: dict[str, float] = field(default_factory=lambda: dict(LAYOUT_SHARE))
    clean_share: float = 0.1
    limbs_gone: float = 0.0  # of the limbs: never seen in the clip
    limbs_invented: float = 0.0  # and put elsewhere, for a while or throughout, as detectors do with what they cannot see

    def part(self, breadth: float) -> "Recipe":
        """The recipe with `breadth` (0 to 1) of its oddities: what does not befall every clip befalls fewer."""
        names = (
            "down_the_tree", "limb_spans", "crop_lower", "waist", "nobody", "limb_swap", "body_swap", "drop_sets", "person_offset",
            "moving_camera", "any_root", "facing", "level", "frame_person", "focal_unknown",
        )  # fmt: skip
        exact = 1 - (1 - self.focal_exact) * breadth
        return replace(self, focal_exact=exact, **{name: getattr(self, name) * breadth for name in names})


TRAIN = Recipe()
_FIXED = Recipe(
    noise=(0, 0), own_noise=1, drift=0, missing=(0, 0), down_the_tree=0, limb_spans=0, crop_lower=0, waist=0, nobody=0, limb_swap=0,
    body_swap=0, drop_sets=0, person_offset=0, moving_camera=0, any_root=0, facing=0, level=0, frame_person=0,
    usual_lens=0, lenses=(0.6, 2.5), focal_exact=1, focal_unknown=0, clean_share=0,
)  # fmt: skip


def fixed_recipe(**changes) -> Recipe:
    """A recipe without any disturbance but the given ones: for evaluation."""
    return Recipe(**{**_FIXED.__dict__, **changes})


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


def _uniform(shape, low: float, high: float, gen: torch.Generator) -> Tensor:
    return low + (high - low) * torch.rand(shape, generator=gen)


def _chance(count: int, p: float, gen: torch.Generator) -> Tensor:
    return torch.rand(count, generator=gen) < p


def _span(count: int, frames: int, low: int, high: int, gen: torch.Generator) -> Tensor:
    """(B, T) one random run of low..high frames a clip."""
    length = _uniform((count, 1), low, high, gen)
    start = _uniform((count, 1), -0.3, 1, gen) * frames
    at = torch.arange(frames)[None]
    return (at >= start) & (at < start + length)


def synthesize(windows: Windows, sets: LandmarkSets, recipe: Recipe, gen: torch.Generator) -> Batch:
    """Project windows through random cameras and disturb what is seen as `recipe` says."""
    count, frames = windows.rotations.shape[:2]
    names = list(recipe.layouts)
    share = torch.tensor([recipe.layouts[n] for n in names])
    layout = torch.multinomial(share, count, replacement=True, generator=gen)
    layout = torch.tensor([sets.layouts.index(n) for n in names])[layout]
    betas = torch.randn(count, 10, generator=gen).clamp(-2.5, 2.5)
    windows, waist = _standing(windows, _chance(count, recipe.waist, gen), gen)
    kinds = NOISE[:, 1] / 0.025
    shift = torch.randn(count, len(POINTS), 3, generator=gen) * recipe.person_offset * kinds[:, None].clamp(0.7, 1.5)
    shaped = sets.shaped(betas, layout, shift)

    # World: Y up. The camera's axes in OpenCV's sense, seen from a yaw of zero: x right, y down, z forward.
    yaw = _uniform((count,), 0, 2 * math.pi, gen)
    if recipe.facing:
        front = windows.rotations[:, frames // 2, 0, :, 2]
        towards = math.radians(15) * torch.randn(count, generator=gen) - torch.atan2(front[:, 0], front[:, 2])
        yaw = torch.where(_chance(count, recipe.facing, gen), towards, yaw)
    zero = torch.zeros(count)
    spin = exp_so3(torch.stack((zero, yaw, zero), -1))
    free = torch.randn(count, 4, generator=gen)
    spin = torch.where(_chance(count, recipe.any_root, gen)[:, None, None], quaternion_to_matrix(free), spin)
    pitch = (math.radians(5) + math.radians(22.5) * torch.randn(count, generator=gen)).clamp(-1.22, 1.22)
    if recipe.level:
        held = math.radians(3) + math.radians(6) * torch.randn(count, generator=gen)
        pitch = torch.where(_chance(count, recipe.level, gen), held, pitch)
    roll = math.radians(7.5) * torch.randn(count, generator=gen)
    roll = torch.where(_chance(count, 0.2, gen), _uniform((count,), -math.pi / 6, math.pi / 6, gen), roll)
    base = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
    tilt = exp_so3(torch.stack((zero, zero, roll), -1)) @ exp_so3(torch.stack((pitch, zero, zero), -1)) @ base

    moving = _chance(count, recipe.moving_camera, gen)
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

    focal = torch.exp(_uniform((count,), *map(math.log, recipe.lenses), gen))  # over the image's longer side
    if recipe.usual_lens:
        usual = torch.exp(math.log(0.9) + 0.28 * torch.randn(count, generator=gen))
        focal = torch.where(_chance(count, recipe.usual_lens, gen), usual, focal)
    near = torch.rand(count, generator=gen) < 0.4
    depth = torch.where(near, _uniform((count,), 1, 6, gen), _uniform((count,), 4, 12, gen))
    framed = _chance(count, recipe.frame_person, gen)
    fills = torch.exp(_uniform((count,), math.log(0.2), math.log(1.5), gen))
    depth = torch.where(framed, (focal * 1.7 / fills).clamp(0.8, 25), depth)
    offset = torch.randn(count, 2, generator=gen) * 0.15 * (0.5 / focal)[:, None]
    offset = torch.where(framed[:, None], _uniform((count, 2), -0.3, 0.3, gen) / focal[:, None], offset)
    centre = torch.cat((offset, torch.ones(count, 1)), -1) * depth[:, None]
    wander = smooth_noise(count, frames, 3, 20, gen) * 0.15 * moving[:, None, None]
    pelvis = centre[:, None] + relative + wander
    posed = shaped.posed(rotations, pelvis)
    nearest = posed.joints[..., 2].amin((1, 2))
    push = (0.5 - nearest).clamp_min(0)
    forward = torch.stack((offset[:, 0] * push, offset[:, 1] * push, push), -1)[:, None]
    pelvis = pelvis + forward
    joints, points = posed.joints + forward[:, :, None], posed.points + forward[:, :, None]

    rays, confidence, seen = _detect(points, pelvis, focal, framed, waist, sets.available[layout], recipe, gen)

    factor, known = told_focal(focal, recipe, gen)
    return Batch(
        rays / factor[:, None, None, None], confidence, rotations, pelvis, betas, up, -factor.log(),
        known, (~moving).float(), windows.lower_true & ~moving, layout, joints, points,
    )  # fmt: skip


def _standing(windows: Windows, chosen: Tensor, gen: torch.Generator) -> tuple[Windows, Tensor]:
    """The chosen (B) clips of upright people with legs that stand, held as in some frame of the batch; and which those are (B).

    Mean legs of motion capture are bent, and so are those that a network invents for people whom it sees to the waist; but who is
    filmed so stands, mostly.
    """
    turns = windows.rotations
    root = turns[:, :, 0]
    hips = root[:, :, None] @ turns[:, :, [1, 2]]
    shins = hips @ turns[:, :, [4, 5]]
    stands = (torch.cat((hips, shins), 2)[..., 1, 1] > math.cos(math.radians(15))).all(-1).flatten().nonzero().squeeze(-1)
    chosen = chosen & (root[..., 1, 1] > math.cos(math.radians(40))).all(1)
    if not (len(stands) and chosen.any()):
        return windows, torch.zeros_like(chosen)
    taken = stands[torch.randint(len(stands), (len(chosen),), generator=gen)]
    yaw = torch.atan2(root[..., 0, 2], root[..., 2, 2])
    zero = torch.zeros_like(yaw)
    heading = exp_so3(torch.stack((zero, yaw, zero), -1))
    below = turns[:, :, [4, 5, 7, 8, 10, 11]].flatten(0, 1)[taken][:, None].expand(-1, turns.shape[1], -1, -1, -1)
    upright = (heading.transpose(-1, -2)[:, :, None] @ hips).flatten(0, 1)[taken][:, None]
    legs = torch.cat(((root.transpose(-1, -2) @ heading)[:, :, None] @ upright, below), 2)
    turns = turns.clone()
    turns[:, :, [1, 2, 4, 5, 7, 8, 10, 11]] = torch.where(chosen[:, None, None, None, None], legs, turns[:, :, [1, 2, 4, 5, 7, 8, 10, 11]])
    return Windows(turns, windows.trans, windows.lower_true & ~chosen), chosen


def told_focal(focal: Tensor, recipe: Recipe, gen: torch.Generator) -> tuple[Tensor, Tensor]:
    """What a solver is told of focal lengths (B) over the longer side: (B) told over true, and (B) 1 where it is said to be known."""
    count = len(focal)
    known = torch.rand(count, generator=gen)
    wrong = torch.exp(_uniform((count,), math.log(0.8), math.log(1.25), gen))
    default = math.sqrt(1 + 0.6**2) / focal
    factor = torch.where(known < recipe.focal_exact, torch.ones(count), wrong)
    unknown = known > 1 - recipe.focal_unknown
    factor = torch.where(unknown, default, factor)
    return factor, (~unknown).float()


def table_noise(count: int, frames: int, gain: Tensor, own: float, gen: torch.Generator) -> Tensor:
    """Noise (B, T, 30, 3) m on points in space, as the tables have it.

    gain: (B, 1, 1, 1); own: every point's noise in a clip is up to so many times more or less than the tables say.
    """
    k = len(NOISE)
    table = NOISE[None, None, :, None]  # (1, 1, K, 1, 4)
    jitter = torch.randn(count, frames, k, 3, generator=gen) * table[..., 0]
    bias = torch.randn(count, 1, k, 3, generator=gen) * table[..., 1]
    if own > 1:  # no detector is the tables', nor is its jitter the measure of its bias
        most = math.log(own)
        jitter, bias = (v * _uniform((count, 1, k, 1), -most, most, gen).exp() for v in (jitter, bias))
    peaks = torch.rand(count, frames, k, 1, generator=gen) < table[..., 3]
    jump = torch.randn(count, frames, 1, 3, generator=gen) * table[..., 2] * peaks
    return gain * (jitter + bias + jump)


def _detect(
    points: Tensor, pelvis: Tensor, focal: Tensor, framed: Tensor, waist: Tensor, available: Tensor, recipe: Recipe,
    gen: torch.Generator,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Rays (B, T, 30, 2), confidence and visibility (B, T, 30) of a noisy detector."""
    count, frames, k = points.shape[:3]
    gain = _uniform((count, 1, 1, 1), *recipe.noise, gen)
    gain = torch.where(_chance(count, recipe.clean_share, gen)[:, None, None, None], torch.zeros_like(gain), gain)
    noisy = points + table_noise(count, frames, gain, recipe.own_noise, gen)
    clean = points[..., :2] / points[..., 2:].clamp_min(0.2)
    rays = noisy[..., :2] / noisy[..., 2:].clamp_min(0.2)
    unit = (1.7 / pelvis[..., 2].clamp_min(0.5))[..., None, None] / 2  # half the person's height, as a tangent
    if recipe.drift:
        slow = smooth_noise(count, frames, k * 2, 9, gen).unflatten(-1, (k, 2)) * 0.008
        odd = (_uniform((count, frames // 9 + 2, k), 0, 1, gen) < 0.1).float()
        odd = odd[:, (torch.arange(frames) // 9).clamp_max(odd.shape[1] - 1)]
        spread = _uniform((count, frames, k, 2), -0.03, 0.03, gen) * odd[..., None]
        white = torch.randn(count, frames, k, 2, generator=gen) * 0.002
        has = (gain > 0).float()
        rays = rays + unit * (slow + spread + white) * recipe.drift * has

    gone = lose(rays, clean, focal, framed, recipe, gen)
    gone |= ~available[:, None]
    for rows, hidden in ((torch.cat(LEGS), waist), (HIPS, waist & _chance(count, 0.5, gen))):
        gone[:, :, rows] |= hidden[:, None, None]
    if recipe.limb_swap or recipe.body_swap:
        rays, gone = _swap(rays, gone, recipe, gen)

    error = (rays - clean).norm(dim=-1) / unit.squeeze(-1)
    a, b, m, s = 0.028, 1.1, -0.0046, 0.143
    confidence = a / (error + a) + b * error.clamp_max(0.3) + m + s * torch.randn(error.shape, generator=gen)
    confidence = confidence.clamp(0.06, 1)
    plain = _chance(count, 0.25, gen)[:, None, None]  # some detectors' confidence says nothing
    confidence = torch.where(plain, torch.full_like(confidence, 0.9), confidence)
    if recipe.limbs_gone or recipe.limbs_invented:
        rays, confidence, gone = _limbs(rays, confidence, gone, unit, recipe, gen)
    return rays, torch.where(gone, torch.zeros_like(confidence), confidence), ~gone


def _limbs(
    rays: Tensor, confidence: Tensor, gone: Tensor, unit: Tensor, recipe: Recipe, gen: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Whole limbs, or what lies beyond their middle joint, gone from whole clips; or as they are in another clip, with any confidence.

    rays: (B, T, 30, 2); confidence, gone: (B, T, 30); unit: (B, T, 1, 1) what brings rays to the size of a person.
    """
    count, frames = gone.shape[:2]
    rays, confidence, gone = rays.clone(), confidence.clone(), gone.clone()
    hips = POINT_INDEX["left_hip"], POINT_INDEX["right_hip"]
    limbs = [pair for arm in ARMS for pair in ((arm[1:], arm[0]), (arm[2:], arm[1]))]
    limbs += [pair for leg, hip in zip(LEGS, hips) for pair in ((leg, hip), (leg[1:], leg[0]))]
    both = _chance(count, recipe.limbs_gone / 3, gen)
    for rows, root in limbs:
        hidden = _chance(count, recipe.limbs_gone / 4, gen) | (both & (root in hips))
        gone[:, :, rows] |= hidden[:, None, None]
        hit = _chance(count, recipe.limbs_invented / 4, gen)[:, None] & _span(count, frames, frames // 20 + 1, 1.3 * frames, gen)
        other = torch.randperm(count, generator=gen)
        away = (rays[:, :, rows] - rays[:, :, root, None])[other] * (unit / unit[other])
        made = rays[:, :, root, None] + away + 0.02 * unit * torch.randn(away.shape, generator=gen)
        rays[:, :, rows] = torch.where(hit[..., None, None], made, rays[:, :, rows])
        sure = _uniform((count, 1, 1), 0.06, 0.9, gen) + 0.08 * torch.randn(away.shape[:3], generator=gen)
        confidence[:, :, rows] = torch.where(hit[..., None], sure.clamp(0.06, 1), confidence[:, :, rows])
    return rays, confidence, gone


def lose(rays: Tensor, clean: Tensor, focal: Tensor, framed: Tensor, recipe: Recipe, gen: torch.Generator) -> Tensor:
    """(B, T, 30) the points that are not seen: by chance, in spans, cut off, outside the image, in sets that a file lacks.

    rays, clean: (B, T, 30, 2) as detected and as they are; focal (B) over the image's longer side; framed (B) the image has edges.
    """
    count, frames, k = rays.shape[:3]
    gone = torch.zeros(count, frames, k, dtype=torch.bool)
    rate = _uniform((count, 1, 1), *recipe.missing, gen)
    gone |= torch.rand(count, frames, k, generator=gen) < rate
    if recipe.down_the_tree:
        start = torch.rand(count, frames, k, generator=gen) < recipe.down_the_tree
        gone |= (start.float() @ HIDES) > 0
    if frames > 1:
        _spans(gone, recipe, gen)
    if recipe.crop_lower:
        line = _uniform((count, 1, 1), 0.0, 1.0, gen)
        top, bottom = clean[..., 1].amin((1, 2)), clean[..., 1].amax((1, 2))
        cut = top[:, None, None] + (bottom - top)[:, None, None] * (0.35 + 0.6 * line)
        gone |= _chance(count, recipe.crop_lower, gen)[:, None, None] & (rays[..., 1] > cut)
    if recipe.frame_person:  # what lies outside the image is not seen
        aspect = torch.where(_chance(count, 0.5, gen)[:, None], torch.tensor([[1.0, 0.6]]), torch.tensor([[0.6, 1.0]]))
        half = (aspect * 0.5 / focal[:, None])[:, None, None]
        outside = (rays.abs() > half).any(-1) & framed[:, None, None]
        # A person who is never in the picture teaches nothing.
        outside &= ((~outside).sum(-1) >= 6).float().mean(1)[:, None, None] > 0.5
        gone |= outside
    if recipe.drop_sets:
        for rows in (FACE, FEET, HANDS):
            gone[:, :, rows] |= _chance(count, recipe.drop_sets, gen)[:, None, None]
    return gone


def _spans(gone: Tensor, recipe: Recipe, gen: torch.Generator) -> None:
    count, frames = gone.shape[:2]
    for rows in (*ARMS, *LEGS):
        hit = _chance(count, recipe.limb_spans / 2, gen)[:, None] & _span(count, frames, 3, 45, gen)
        gone[:, :, rows] |= hit[..., None]
    both = _chance(count, recipe.limb_spans / 6, gen)[:, None] & _span(count, frames, 10, 60, gen)
    for rows in (*LEGS, HIPS):
        gone[:, :, rows] |= both[..., None]
    gone |= (_chance(count, recipe.nobody, gen)[:, None] & _span(count, frames, 3, 20, gen))[..., None]


def _swap(rays: Tensor, gone: Tensor, recipe: Recipe, gen: torch.Generator) -> tuple[Tensor, Tensor]:
    """Left and right labels exchanged: a pair of limbs, or the whole body, for a while."""
    count, frames, k = gone.shape
    swap = torch.zeros(count, frames, k, dtype=torch.bool)
    for pair in (ARMS, LEGS):
        hit = _chance(count, recipe.limb_swap / 2, gen)[:, None] & _span(count, frames, 2, 15, gen)
        swap[:, :, torch.cat(pair)] |= hit[..., None]
    swap |= (_chance(count, recipe.body_swap, gen)[:, None] & _span(count, frames, 2, 15, gen))[..., None]
    return torch.where(swap[..., None], rays[:, :, MIRROR], rays), torch.where(swap, gone[:, :, MIRROR], gone)
