# SPDX-License-Identifier: GPL-3.0-or-later
"""What one training iteration does in each mode: draw, synthesise, run the network, take the loss; and validation."""

import math
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from ..body import joints as J
from ..body.landmarks import FAMILY
from ..body.smpl import BodyModel
from ..lgd.mirror import Axes, PairLinear
from ..lgd.observation import Observation, observe
from ..lgd.paper import PaperNet, select_points
from ..lgd.video import FAMILIES, Block, ClipBody, State, TimeConv, VideoNet
from ..rotations import exp_so3, quaternion_to_matrix
from .config import Phase, Plan
from .data import VAL_HARD, VAL_PLAIN, Mocap, Sampler, Windows, generator, smooth_noise
from .detected import CLEAR, Detections, read
from .losses import doubt_loss, target_of, touch_loss, video_loss
from .metrics import acceleration_error, pa_mpjpe
from .paper_data import PaperBatch, footage_batch, paper_batch, paper_loss
from .recipe import LAYOUT_SHARE, TRAIN, fixed_recipe
from .synthesize import Batch, LandmarkSets, synthesize

CONDITIONS = {
    "plain_clean": (VAL_PLAIN, fixed_recipe()),
    "plain_noise20": (VAL_PLAIN, fixed_recipe(noise=(1, 1), drift=1, missing=(0.2, 0.2))),
    "hard_spans": (VAL_HARD, fixed_recipe(noise=(1, 1), drift=1, missing=(0.05, 0.05), limb_spans=0.6)),
}


@dataclass
class Disturbance:
    """What makes a first estimate a bad start: turns (B, T, 24, 3, 3) of the joints, spin (B, 3, 3) of the root, shift (B, 1, 3)."""

    turns: Tensor
    spin: Tensor
    shift: Tensor

    def __call__(self, state: State) -> State:
        state = state.detached()
        rotations = state.rotations @ self.turns
        rotations = torch.cat((self.spin[:, None, None] @ rotations[:, :, :1], rotations[:, :, 1:]), 2)
        return State(rotations, state.tau + self.shift, state.betas, state.focal, state.contact, state.up, state.doubt)


@dataclass
class Draw:
    """What one iteration of video mode sees. motion: share of the terms on motion over time; batches: each with its bad starts;
    clips, then single frames, then those for the first estimate alone, then clips as a detector saw them, as far as the phase
    has them."""

    motion: Tensor
    batches: list[tuple[Batch, Disturbance | None]]


@dataclass
class PaperDraw:
    """What one iteration of paper mode sees. start: theta (N, 72), betas (N, 10) where the steps alone are trained."""

    batch: PaperBatch
    start: tuple[Tensor, Tensor] | None


# Of a loss: what frames for the first estimate alone, and clips as a detector saw them, weigh against the others.
FIRSTS = 0.25
DETECTED = 1.0
KEPT = 15  # every so-many-th recorded clip validates


def windows_of(mocap: Mocap, frames: int, stride: int) -> Windows:
    """Every clip of a Mocap cut into windows as captured; those shorter than `frames` are held at the end."""
    rows, true = [], []
    for start, length, grounded in zip(mocap.start.tolist(), mocap.length.tolist(), mocap.grounded.tolist()):
        for first in range(0, max(1, length - frames // 2), stride):
            rows.append(start + torch.arange(first, first + frames).clamp_max(length - 1))
            true.append(grounded)
    index = torch.stack(rows)
    trans = mocap.trans[index]
    trans = trans - trans[:, frames // 2, None] * torch.tensor([1.0, 0.0, 1.0])
    return Windows(quaternion_to_matrix(mocap.quats[index]), trans, torch.tensor(true))


class VideoTask:
    """Training of the video network."""

    def __init__(self, plan: Plan, body: BodyModel, mocap: Mocap, recordings: list[Path] | None = None):
        self.plan, self.body = plan, body
        self.sets = LandmarkSets(body, list(LAYOUT_SHARE))
        self.layouts = {k: share for k, share in LAYOUT_SHARE.items() if plan.family in (None, FAMILY[k])}
        self.families = torch.tensor([FAMILIES.index(FAMILY[name]) for name in self.sets.layouts])
        self.val = {
            name: (mocap.validating(subjects), replace(recipe, layouts=self.layouts))
            for name, (subjects, recipe) in CONDITIONS.items()
        }
        self._batches: dict[tuple[str, int], Batch] = {}
        self.detections = self.kept = None
        if recordings:
            self.detections, kept = Detections(read(recordings), self.sets, CLEAR).parted(KEPT)
            self.kept = kept if len(kept.rays) else None  # fewer than KEPT: all are trained on

    def network(self, sampler: Sampler) -> VideoNet:
        net = VideoNet(self.plan.video)
        net.limits.copy_(sampler.limits[:, 1:])
        net.blind = self.plan.blind
        return net

    def network_config(self) -> dict:
        return self.plan.video.as_dict()

    def axes(self, net: VideoNet) -> Axes:
        """What keeps the network symmetric."""
        return net.axes()

    def taps(self, net: VideoNet) -> list[torch.nn.Parameter]:
        """The convolutions' taps, which are trained at a rate of their own."""
        return [m.weight for m in net.modules() if isinstance(m, TimeConv)]

    def matrices(self, net: VideoNet) -> list[torch.nn.Parameter]:
        """What Muon trains: the matrices between features, from the inputs and to the largest outputs."""
        return _between(net) + [layer.weight for layer in (net.inlet[0], net.state_in, net.head, net.step)]

    def first(self, net: VideoNet) -> list[torch.nn.Parameter]:
        """What makes the first estimate, and the features that the steps read too."""
        return [p for part in (net.inlet, net.encoder, net.norm, net.head, net.head_clip) for p in part.parameters()]

    def shared(self, net: VideoNet) -> list[torch.nn.Parameter]:
        """What stays as it is where a family's weights are trained: more than half of all, and what weighs most in the file."""
        return _between(net.encoder) if self.plan.family else []

    def grow(self, net: VideoNet, weights: dict[str, Tensor], config: dict) -> None:
        """Ready network and weights of a smaller one for each other: further blocks do nothing at first, further steps what
        the last one does."""
        for name, block in net.named_modules():
            if isinstance(block, Block) and f"{name}.join.even" not in weights:
                block.silence()
        if "stage.weight" in weights:
            had = config["steps"]
            weights["stage.weight"][had:] = weights["stage.weight"][had - 1]

    def clip_body(self, layout: Tensor) -> ClipBody:
        """Nominal bodies for layout indices (B): the person's own landmark error is not known to the solver."""
        return ClipBody(self.body, self.sets.offsets[layout], self.sets.directions[layout], self.sets.parents)

    def run(
        self, net: VideoNet, batch: Batch, steps: int, perturb=None
    ) -> tuple[list[State], Tensor, ClipBody, Observation]:  # fmt: skip
        """Estimates for a batch, the last one's features, and what they were made from."""
        obs = observe(batch.rays, batch.confidence)
        body = self.clip_body(batch.layout)
        family = torch.nn.functional.one_hot(self.families[batch.layout], len(FAMILIES)).float()
        states, features = net(obs, body, batch.focal_known, batch.static, family, steps=steps, perturb=perturb)
        return states, features, body, obs

    @torch.no_grad()
    def draw(self, net: VideoNet, sampler: Sampler, phase: Phase, gen: torch.Generator, along: float = 1.0) -> Draw:
        """What one iteration sees. along: how much of the phase is done, in [0, 1]."""
        part = 2 if phase.halved and float(torch.rand(1, generator=gen)) < 0.5 else 1
        first, last = phase.breadth
        recipe = replace(TRAIN.part(first + (last - first) * along), layouts=self.layouts)
        if phase.doubt:
            recipe = replace(recipe, limbs_gone=0.25, limbs_invented=0.2)

        def batch(count: int, frames: int, perturbed: float) -> tuple[Batch, Disturbance | None]:
            seen = synthesize(sampler.draw(count, frames, gen), self.sets, recipe, gen)
            return seen, bad_starts(count, frames, perturbed, gen) if perturbed else None

        batches = [batch(phase.batch * part, phase.frames // part, phase.perturbed)]
        if phase.singles:
            batches.append(batch(phase.singles, 1, phase.perturbed))
        if phase.firsts:
            batches.append(batch(phase.firsts, 1, 0.0))
        if phase.detected and self.detections:
            seen = self.detections.draw(phase.detected, phase.frames, gen)
            count, frames = seen.rays.shape[:2]
            batches.append((seen, bad_starts(count, frames, phase.perturbed, gen) if phase.perturbed else None))
        return Draw(torch.tensor(min(1.0, 0.05 + along / 0.4)), batches)

    def loss(self, net: VideoNet, phase: Phase, drawn: Draw) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of one iteration, and its parts on clips."""
        (clips, disturb), *others = drawn.batches
        if phase.touch or phase.doubt:
            losses = [self._reading_loss(net, phase, batch) for batch in (clips, *(batch for batch, _ in others))]
            return sum(losses) / len(losses), {"touch" if phase.touch else "doubt": losses[0].detach()}
        loss, parts = self._loss(net, clips, phase.steps, disturb, drawn.motion)
        if phase.singles:
            singles, disturb = others.pop(0)
            loss = (loss + self._loss(net, singles, phase.steps, disturb, drawn.motion)[0]) / 2
        if phase.firsts:
            firsts, _ = others.pop(0)
            loss = (loss + FIRSTS * self._loss(net, firsts, 0, None, drawn.motion)[0]) / (1 + FIRSTS)
        if others:
            detected, disturb = others.pop(0)
            loss = (loss + DETECTED * self._loss(net, detected, phase.steps, disturb, drawn.motion)[0]) / (1 + DETECTED)
        return loss, parts

    def _loss(
        self, net: VideoNet, batch: Batch, steps: int, disturb: Disturbance | None, motion: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        states, _, body, obs = self.run(net, batch, steps, disturb)
        with torch.no_grad():
            target = target_of(batch, obs)
        return video_loss(states, body, obs, target, batch, motion)

    def _reading_loss(self, net: VideoNet, phase: Phase, batch: Batch) -> Tensor:
        with torch.no_grad():
            states, features, body, obs = self.run(net, batch, phase.steps)
            target = target_of(batch, obs)
        contact, doubt = net.read(features, states[-1], body, obs, batch.static)
        return touch_loss(contact, target, batch) if phase.touch else doubt_loss(doubt, states[-1], body, obs, target)

    @torch.no_grad()
    def validate(self, net: VideoNet, phase: Phase) -> dict[str, float]:
        """PA-MPJPE (mm, 12 limb joints) and acceleration error on windows of the val subjects."""
        frames = phase.frames if phase.frames == 1 else 96
        out: dict[str, float] = {}
        for name in (*self.val, *(["detected"] if self.kept and frames > 1 else [])):
            batch = self._validating(name, frames)
            states, features, body, obs = self.run(net, batch, phase.steps)
            limbs = list(J.LIMBS)
            for k in sorted({0, len(states) - 1}):
                state = states[k]
                posed = body.posed(state, obs)
                joints = (posed.joints - state.pelvis(obs.size)[:, :, None]) @ obs.turn
                error = pa_mpjpe(joints[:, :, limbs], batch.joints[:, :, limbs])
                out[f"{name}_s{k}"] = round(float(error.mean()), 2)
            if frames > 1:
                root = batch.joints[:, :, :1]
                acc = [acceleration_error(p[:, limbs], t[:, limbs], 30) for p, t in zip(joints, batch.joints - root)]
                out[f"{name}_acc"] = round(float(torch.cat(acc).mean()), 2)
        last = phase.steps
        out["score"] = out[f"plain_noise20_s{last}"] + out[f"plain_clean_s{last}"] + 0.5 * out[f"hard_spans_s{last}"]
        out["score"] += out.get(f"detected_s{last}", 0.0)
        return out

    def _validating(self, name: str, frames: int) -> Batch:
        key = (name, frames)
        if key not in self._batches:
            gen = generator(11)
            if name == "detected":
                self._batches[key] = self.kept.whole(gen)
            else:
                mocap, recipe = self.val[name]
                self._batches[key] = synthesize(windows_of(mocap, frames, 12 if frames == 1 else 96), self.sets, recipe, gen)
        return self._batches[key]


def _between(net: torch.nn.Module) -> list[torch.nn.Parameter]:
    """The matrices between features in pairs."""
    return [w for m in net.modules() if isinstance(m, PairLinear) for w in (m.even, m.odd)]


def bad_starts(count: int, frames: int, share: float, gen: torch.Generator) -> Disturbance:
    """Smooth and white rotation noise, turned roots and wrong depths for a share of the clips."""
    hit = (torch.rand(count, generator=gen) < share).float()
    strength = torch.deg2rad(torch.rand(count, 1, 1, generator=gen) * 25) * hit[:, None, None]
    noise = smooth_noise(count, frames, 72, 12, gen) + 0.3 * torch.randn(count, frames, 72, generator=gen)
    turned = (torch.rand(count, generator=gen) < 0.5).float() * hit
    yaw = (torch.rand(count, generator=gen) * 2 - 1) * math.pi * turned
    shift = torch.randn(count, 1, 3, generator=gen) * 0.1 * hit[:, None, None]
    spin = exp_so3(torch.stack((torch.zeros(count), yaw, torch.zeros(count)), -1))
    return Disturbance(exp_so3((noise * strength).unflatten(-1, (24, 3))), spin, shift)


class PaperTask:
    """Training of the paper's four networks on single frames."""

    def __init__(self, plan: Plan, body: BodyModel, mocap: Mocap):
        self.plan, self.body = plan, body
        self.sets = LandmarkSets(body, list(LAYOUT_SHARE))
        self.val = {name: (mocap.validating(subjects), recipe) for name, (subjects, recipe) in CONDITIONS.items()}

    def network(self, sampler: Sampler) -> PaperNet:
        net = PaperNet(self.plan.width, self.plan.dropout)
        net.blind = self.plan.blind
        return net

    def network_config(self) -> dict:
        return {"width": self.plan.width}

    def axes(self, net: PaperNet) -> Axes:
        """None: the published network is not symmetric."""
        return []

    def taps(self, net: PaperNet) -> list[torch.nn.Parameter]:
        """None."""
        return []

    def matrices(self, net: PaperNet) -> list[torch.nn.Parameter]:
        """None: Adam trains all of the published networks."""
        return []

    def shared(self, net: PaperNet) -> list[torch.nn.Parameter]:
        """None."""
        return []

    def grow(self, net: PaperNet, weights: dict[str, Tensor], config: dict) -> None:
        """Nothing: the published network has one size."""

    def first(self, net: PaperNet) -> list[torch.nn.Parameter]:
        """What makes the first estimate."""
        return [*net.pose_first.parameters(), *net.shape_first.parameters()]

    @torch.no_grad()
    def draw(self, net: PaperNet, sampler: Sampler, phase: Phase, gen: torch.Generator, along: float = 1.0) -> PaperDraw:
        """What one iteration sees; it does not change along the way."""
        windows = sampler.draw(phase.batch, 1, gen)
        batch = footage_batch(windows, self.body, self.sets, gen) if phase.footage else paper_batch(windows, self.body, gen)
        if not phase.updates:
            return PaperDraw(batch, None)
        first = net.eval()(batch.keypoints, batch.confidence, self.body, steps=0)[0]
        net.train()
        return PaperDraw(batch, (first.theta, first.betas))

    def loss(self, net: PaperNet, phase: Phase, drawn: PaperDraw) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of one iteration, and its parts."""
        batch = drawn.batch
        return paper_loss(net(batch.keypoints, batch.confidence, self.body, phase.steps, drawn.start), batch)

    @torch.no_grad()
    def validate(self, net, phase: Phase) -> dict[str, float]:
        out: dict[str, float] = {}
        limbs = list(J.LIMBS)
        for name, (mocap, recipe) in self.val.items():
            gen = generator(11)
            batch = synthesize(windows_of(mocap, 1, 4), self.sets, recipe, gen)
            points = select_points(batch.rays[:, 0], batch.confidence[:, 0])
            estimates = net(*points, self.body, steps=phase.steps)
            for k in sorted({0, phase.steps}):
                error = pa_mpjpe(estimates[k].joints[:, limbs], batch.joints[:, 0, limbs])
                out[f"{name}_s{k}"] = round(float(error.mean()), 2)
        last = phase.steps
        out["score"] = out[f"plain_noise20_s{last}"] + out[f"plain_clean_s{last}"] + 0.5 * out[f"hard_spans_s{last}"]
        return out
