# SPDX-License-Identifier: GPL-3.0-or-later
"""The network of video mode: learned descent on a whole clip at once.

An encoder over time reads the keypoints and gives a first estimate; one update block, shared by all steps, then
reads the present state, the residual and the gradients of the energies, and predicts the next step. Its step is a
free part plus a learned multiple of the negative gradient for every parameter (for turns and place, of the gradient over
the energy's curvature: a Levenberg-Marquardt step, as in Choutas et al. 2022).
"""

from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from ..body.smpl import BodyModel, Posed, Shaped
from ..rotations import exp_so3, from_6d, to_6d
from . import mirror as M
from .energy import Feedback, feedback
from .observation import Observation, look_at, place_pelvis, project, running_mean, smooth_weighted
from .touch import Touch

SCALE = 6.0  # of the points against the other inputs
SPEED_SCALE = 40.0  # a foot at rest moves by a thousandth of the box a frame
# What brings each part of a step's feedback to the size of the other inputs; a smaller input is learned more slowly.
RESIDUAL_SCALE, ENERGY_SCALE, TURN_SCALE, AIMED_SCALE, PLACE_SCALE = 40.0, 20.0, 8.0, 8.0, 20.0
CLIP_SCALE, LIMIT_SCALE = 2.0, 20.0
STEADY = (2.0, 6.0)  # frames over which a step's aim may be averaged
CALM = (1.0, 3.0)  # frames over which the finished motion may be
GATE = 8.0  # a gate must come to mean all or nothing within the few steps that training can afford
STIFF = 3.5  # log of how far learned damping may go from the usual
FAMILIES = ("coco", "openpose", "blaze")


@dataclass(frozen=True)
class VideoConfig:
    """Sizes of the network. width: features, in pairs; encoder: dilations of the encoder's blocks; update: of the update's."""

    width: int = 320
    encoder: tuple[int, ...] = (1, 2, 4, 8, 16)
    update: tuple[int, ...] = (1, 4)
    kernel: int = 9
    steps: int = 7

    def as_dict(self) -> dict:
        return asdict(self)


def squash(x: Tensor) -> Tensor:
    """Linear near zero, logarithmic far from it: small residuals stay visible beside large ones."""
    return x.abs().log1p().copysign(x)


class TimeConv(nn.Module):
    """Depthwise convolution over time as shifted sums: on CPUs faster than the library's grouped convolution."""

    def __init__(self, width: int, kernel: int, dilation: int):
        super().__init__()
        # Only the present at first: taps that single frames leave untrained would be noise on the first clips.
        self.weight = nn.Parameter(torch.zeros(kernel, width))
        with torch.no_grad():
            self.weight[kernel // 2] = 1
        self.bias = nn.Parameter(torch.zeros(width))
        self.dilation = dilation

    def forward(self, x: Tensor) -> Tensor:
        half, frames = len(self.weight) // 2, x.shape[1]
        reach = min(half, (frames - 1) // self.dilation)  # taps that lie within the clip
        edge = reach * self.dilation
        padded = nn.functional.pad(x, (0, 0, edge, edge)) if edge else x
        out = torch.addcmul(self.bias, x, self.weight[half])
        for tap in range(-reach, reach + 1):
            if tap:
                first = edge + tap * self.dilation
                out = torch.addcmul(out, padded[:, first : first + frames], self.weight[half + tap])
        return out


def _linear(layer: nn.Linear, inputs: M.Mirror, outputs: M.Mirror) -> M.Axes:
    return [(layer.weight, ((0, outputs), (1, inputs))), (layer.bias, ((0, outputs),))]


class Block(nn.Module):
    """Gated convolution over time, then a two-layer perceptron, both residual."""

    def __init__(self, width: int, kernel: int, dilation: int):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.value, self.gate = M.PairLinear(width, width), M.PairLinear(width, width)
        self.conv = TimeConv(width, kernel, dilation)
        self.join = M.PairLinear(width, width)
        self.mlp = nn.Sequential(M.PairLinear(width, 2 * width), nn.GELU(), M.PairLinear(2 * width, width))

    def axes(self) -> M.Axes:
        """Its parameters that are not symmetric by themselves, and what a mirror does to them."""
        own = M.pairs(len(self.conv.bias))
        single = (*self.norm1.parameters(), *self.norm2.parameters(), self.conv.bias)
        return [*((p, ((0, own),)) for p in single), (self.conv.weight, ((1, own),))]

    @torch.no_grad()
    def silence(self) -> None:
        """Do nothing until learned: for a block added to a trained network."""
        for layer in (self.join, self.mlp[-1]):
            for parameter in layer.parameters():
                parameter.zero_()

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(x)
        x = x + self.join(self.conv(self.value(y)) * torch.sigmoid(self.gate(y)))
        return x + self.mlp(self.norm2(x))


@dataclass
class State:
    """An estimate. rotations (B, T, 24, 3, 3), root in the virtual camera; tau (B, T, 3) log depth, dx, dy in boxes;
    betas (B, 10); focal (B, 1) log of true over told focal length; contact (B, T, 6) logits of left heel, left toe,
    right heel, right toe, left wrist, right wrist at rest; up (B, T, 3) world's up in the virtual camera, not
    normalised; doubt (B, T, 24) log of the expected joint error in m."""

    rotations: Tensor
    tau: Tensor
    betas: Tensor
    focal: Tensor
    contact: Tensor
    up: Tensor
    doubt: Tensor

    def pelvis(self, size: Tensor) -> Tensor:
        """Pelvis (B, T, 3) m in the virtual camera for the observation's size (B, T, 1)."""
        return place_pelvis(self.tau, self.size(size))

    def size(self, size: Tensor) -> Tensor:
        """Angular size of the box under this state's focal length (B, T, 1)."""
        return size * (-self.focal).exp()[:, None]

    def camera_turn(self, obs: Observation) -> Tensor:
        """Camera to virtual camera (B, T, 3, 3) under this state's focal length."""
        return look_at(obs.centre * (-self.focal).exp()[:, None])

    def detached(self) -> "State":
        return State(*(getattr(self, n).detach() for n in self.__dataclass_fields__))


class VideoNet(nn.Module):
    """`forward(obs, ...)` returns the estimates of steps 0..N; `encode`, `first` and `advance` are its parts. `read` reads contacts
    and doubt off the last.

    Its weights are symmetric (`mirror`): mirrored keypoints get the mirrored estimate.
    """

    def __init__(self, config: VideoConfig = VideoConfig()):
        super().__init__()
        self.config = config
        self.blind = False  # zero the gradients and residuals (the ablation)
        w = config.width
        inputs = 60 + 30 + 30 + 2 + 1 + 1 + 1 + len(FAMILIES) + 60
        self.inlet = nn.Sequential(nn.Linear(inputs, w), nn.GELU(), M.PairLinear(w, w))
        self.encoder = nn.ModuleList(Block(w, config.kernel, d) for d in config.encoder)
        self.norm = nn.LayerNorm(w)
        self.head = nn.Linear(w, 144 + 3)
        self.head_clip = nn.Linear(w, 10 + 1)
        self.signs = nn.Linear(w, 6 + 3 + 24)
        before, motion, after = w + 144 + 3 + 10 + 1 + 60 + 1 + 72 + 72 + 3 + 22, 60 + 72 + 72 + 3, 69 + 3
        self.state_in = nn.Linear(before + motion + after, w)
        with torch.no_grad():  # what single frames lack (motion) enters as nothing, until learned, and not as noise
            self.inlet[0].weight[:, -60:] = 0
            self.state_in.weight[:, before : before + motion] = 0
        self.stage = nn.Embedding(8, w)
        self.update = nn.ModuleList(Block(w, config.kernel, d) for d in config.update)
        self.update_norm = nn.LayerNorm(w)
        self.step = nn.Linear(w, 72 + 3 + 72 + 3)
        self.step_clip = nn.Linear(w, 10 + 1 + 22)
        self.steadiness = nn.Linear(w + 31, (72 + 3) * (1 + len(STEADY)))
        self.distrust = nn.Linear(w + 31, 72 + 3)
        self.damping = nn.Linear(w + 31, 24 + 1)
        self.trust = nn.Linear(w + 31, 72 + 3)
        self.calm = nn.Linear(w + 31, (24 + 1) * (1 + len(CALM)))
        self.touch = Touch()
        self.doubts = nn.Linear(w + 24 + 5 * 30 + 31, 24)
        self.register_buffer("limits", torch.stack((torch.full((23, 3), -3.0), torch.full((23, 3), 3.0))))
        self.register_buffer("mean_pose", to_6d(torch.eye(3)).repeat(24))
        for layer in (
            self.head, self.head_clip, self.signs, self.step, self.step_clip, self.steadiness, self.distrust, self.damping,
            self.trust, self.calm,
        ):  # fmt: skip
            nn.init.normal_(layer.weight, std=1e-3)
            nn.init.zeros_(layer.bias)
        for parameter in self.doubts.parameters():  # the state's own until learned
            nn.init.zeros_(parameter)
        with torch.no_grad():
            self.signs.bias[9:] = -2.5
            self.step_clip.bias[11:] = -1.0 / GATE
            self.distrust.bias[:] = 1.4 / GATE
            self.calm.bias[25:] = -2.0 / GATE
        M.begin(self.axes())

    def axes(self) -> M.Axes:
        """All parameters that are not symmetric by themselves, but `touch`'s, and what a mirror does to each of their axes."""
        w = self.config.width
        own = M.pairs(w)
        read = own + M.POINTS + M.same(1)  # features and roughness
        clip = M.same(1 + 1 + len(FAMILIES))
        seen = M.ACROSS + M.POINTS + M.POINTS + (M.SIGNED + M.same(1)) + M.same(1) + clip + M.ACROSS
        state = M.SIX + M.PLACE + M.same(10 + 1)
        back = M.ACROSS + M.same(1) + M.TURNS + M.TURNS + M.PLACE + M.same(22)
        motion = M.ACROSS + M.TURNS + M.TURNS + M.VECTOR
        rates = M.RATES + M.same(3)
        layers = (
            (self.inlet[0], seen, own), (self.head, own, M.SIX + M.PLACE),
            (self.head_clip, own, M.same(11)), (self.signs, own, M.CONTACTS + M.VECTOR + M.JOINTS),
            (self.state_in, own + state + back + motion + M.LIMITS + M.VECTOR, own),
            (self.step, own, M.TURNS + M.PLACE + rates), (self.step_clip, own, M.same(33)),
            (self.steadiness, read, rates * (1 + len(STEADY))), (self.distrust, read, rates), (self.trust, read, rates),
            (self.damping, read, M.JOINTS + M.same(1)), (self.calm, read, (M.JOINTS + M.same(1)) * (1 + len(CALM))),
            (self.doubts, own + M.JOINTS + M.POINTS * 6 + M.same(1), M.JOINTS),
        )  # fmt: skip
        out = [pair for layer, inputs, outputs in layers for pair in _linear(layer, inputs, outputs)]
        for block in (*self.encoder, *self.update):
            out += block.axes()
        for norm in (self.norm, self.update_norm):
            out += [(norm.weight, ((0, own),)), (norm.bias, ((0, own),))]
        return [*out, (self.stage.weight, ((1, own),))]

    def encode(self, obs: Observation, known: Tensor, static: Tensor, family: Tensor) -> Tensor:
        """Features (B, T, W). known, static: (B) in {0, 1}; family: (B, 3) one-hot of FAMILIES."""
        count, frames = obs.confidence.shape[:2]
        seen = (obs.confidence > 0).to(obs.points)
        clip = torch.cat((known[:, None], static[:, None], family), -1)[:, None].expand(count, frames, -1)
        # Scaled so that the points, not the constants, make most of what the first layer sees.
        parts = (
            obs.points.flatten(2) * SCALE, obs.confidence - 0.7, seen - 0.8, obs.centre, obs.size.log() + 1, clip,
            obs.velocity.flatten(2) * SPEED_SCALE,
        )  # fmt: skip
        x = torch.cat(parts, -1)
        x = self.inlet(x)
        for block in self.encoder:
            x = block(x)
        return x

    def _pool(self, x: Tensor, obs: Observation) -> Tensor:
        weight = obs.confidence.sum(-1, keepdim=True) + 1e-3
        return (x * weight).sum(1) / weight.sum(1)

    def _signs(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        signs = self.signs(x)
        return signs[..., :6], signs[..., 6:9], signs[..., 9:]

    def first(self, x: Tensor, obs: Observation, known: Tensor) -> State:
        """The estimate of step 0 from the encoder's features."""
        y = self.norm(x)
        out = self.head(y)
        clip = self.head_clip(self._pool(y, obs))
        rotations = from_6d((out[..., :144] + self.mean_pose).unflatten(-1, (24, 6)))
        return State(rotations, out[..., 144:], clip[:, :10], clip[:, 10:] * (1 - known[:, None]), *self._signs(y))

    def forward(
        self, obs: Observation, body: "ClipBody", known: Tensor, static: Tensor, family: Tensor,
        steps: int | None = None, start: "State | None" = None, features: Tensor | None = None,
        perturb=None,
    ) -> tuple[list[State], Tensor]:  # fmt: skip
        """Estimates of steps 0..steps, and the last one's features.

        body: the clip's body and landmarks; start: begin from this estimate instead of the network's own; features:
        `encode`'s result where it is at hand; perturb: callable on the first estimate (training from bad starts).
        """
        x = self.encode(obs, known, static, family) if features is None else features
        state = self.first(x, obs, known) if start is None else start
        if body.betas is not None:
            state.betas = body.betas
        states = [state]
        if perturb is not None:
            state = perturb(state)
        for k in range(self.config.steps if steps is None else steps):
            x, state = self.advance(x, state, k, obs, body, known, static)
            states.append(state)
        return states, x

    def advance(
        self, x: Tensor, state: State, k: int, obs: Observation, body: "ClipBody", known: Tensor, static: Tensor
    ) -> tuple[Tensor, State]:  # fmt: skip
        """One learned step: features and the next estimate."""
        count, frames = obs.confidence.shape[:2]
        before = self.norm(x)
        damping = STIFF * (GATE / STIFF * self.damping(torch.cat((before, obs.roughness), -1))).tanh()
        now = state.detached()
        back = body.feedback(now, obs, static, known, self.limits, damping)
        if self.blind:
            back = Feedback(*(torch.zeros_like(getattr(back, n)) for n in back.__dataclass_fields__))
        wide = lambda v: v[:, None].expand(count, frames, -1)  # noqa: E731
        parts = (
            before, to_6d(now.rotations).flatten(2), now.tau, wide(now.betas), wide(now.focal),
            squash(back.residual.flatten(2) * RESIDUAL_SCALE), back.energy[..., None] * ENERGY_SCALE,
            squash(back.turn * TURN_SCALE), squash(back.aimed.detach() * AIMED_SCALE), squash(back.place.detach() * PLACE_SCALE),
            squash(wide(back.clip.flatten(1)) * CLIP_SCALE),
            squash(back.lasting.flatten(2) * RESIDUAL_SCALE), back.smooth, back.contact, back.contact_place, back.limits * LIMIT_SCALE, now.up,
        )  # fmt: skip
        y = x + self.state_in(torch.cat(parts, -1)) + self.stage.weight[min(k, self.config.steps - 1)]
        for block in self.update:
            y = block(y)
        z = self.update_norm(y)
        out = self.step(z)
        clip = self.step_clip(self._pool(z, obs))
        # The explicit part goes along the gradient over the curvature: a gradient says which way, not how far, and limbs
        # seen end on have next to none.
        told = torch.cat((z, obs.roughness), -1)
        rate = 8 * nn.functional.softplus(out[..., 75:] + GATE * self.trust(told) - 3)  # 0.4 at first
        aimed = rate * self._steadied(back, told, obs)
        turn = out[..., :72] + aimed[..., :72]
        tau = now.tau + out[..., 72:75] + aimed[..., 72:]
        mix = (GATE * clip[:, 11:]).sigmoid().unflatten(-1, (11, 2))
        common = clip[:, :11] + (mix * back.clip).sum(-1)
        betas = now.betas + common[:, :10] if body.betas is None else body.betas
        focal = (now.focal + common[:, 10:]) * (1 - known[:, None])
        rotations = now.rotations @ exp_so3(turn.unflatten(-1, (24, 3)))
        if k >= self.config.steps - 1:
            rotations, tau = self._calmed(rotations, tau, told, obs)
        return y, State(rotations, tau, betas, focal.clamp(-1.5, 1.5), *self._signs(z))

    def read(self, x: Tensor, state: State, body: "ClipBody", obs: Observation, static: Tensor) -> tuple[Tensor, Tensor]:
        """`State.contact` (B, T, 6) and `State.doubt` (B, T, 24) as read off a finished estimate and the last step's features
        (B, T, W). The state's own doubt, by which starts are chosen, is the median error of joints that mostly are seen; this is
        the mean, and of limbs too that never are."""
        posed = body.posed(state, obs)
        seen = (obs.confidence > 0).to(x)
        usual = running_mean(torch.stack((obs.confidence, seen), -1), torch.ones_like(seen), 0.0)
        missed = (project(posed.points, state.size(obs.size)) - obs.points).norm(dim=-1) * seen
        parts = (
            self.update_norm(x).detach(), state.doubt + 2.5, obs.confidence - 0.5, seen - 0.8, usual[..., 0] - 0.5, usual[..., 1] - 0.8,
            (missed * RESIDUAL_SCALE).log1p(), obs.roughness,
        )  # fmt: skip
        contact = self.touch(posed, state.camera_turn(obs), state.up, state.doubt, obs, static)
        return contact, (state.doubt + self.doubts(torch.cat(parts, -1))).clamp(-6.0, 1.0)

    def _steadied(self, back: Feedback, told: Tensor, obs: Observation) -> Tensor:
        """Every parameter's own mixture of its aim (B, T, 75) in the frame and over the frames around, without a share of what
        lasts: a detector's noise passes into the first, hardly into the second, and its habits not into the third."""
        aimed = torch.cat((back.aimed, back.place), -1)
        if aimed.shape[1] == 1:
            return aimed
        aimed = aimed - (GATE * self.distrust(told)).sigmoid() * torch.cat((back.lasting_aimed, back.lasting_place), -1)
        seen = obs.confidence.sum(-1)
        share = self.steadiness(told).unflatten(-1, (1 + len(STEADY), -1)).softmax(-2)
        out = share[..., 0, :] * aimed
        for k, sigma in enumerate(STEADY):
            out = out + share[..., 1 + k, :] * smooth_weighted(aimed, seen, sigma)
        return out

    def _calmed(self, rotations: Tensor, tau: Tensor, told: Tensor, obs: Observation) -> tuple[Tensor, Tensor]:
        """The motion with a learned share of its averages over the frames around, for every joint and the place: what shakes
        from frame to frame is a detector's, seldom a person's."""
        if tau.shape[1] == 1:
            return rotations, tau
        packed = torch.cat((to_6d(rotations).flatten(2), tau), -1)
        share = (GATE * self.calm(told)).unflatten(-1, (1 + len(CALM), -1)).softmax(-2)
        # One share for a joint's six numbers, one for the place's three.
        share = torch.cat((share[..., :24].repeat_interleave(6, -1), share[..., 24:].expand(*share.shape[:-1], 3)), -1)
        out = share[..., 0, :] * packed
        seen = obs.confidence.sum(-1)
        for k, sigma in enumerate(CALM):
            out = out + share[..., 1 + k, :] * smooth_weighted(packed, seen, sigma)
        return from_6d(out[..., :144].unflatten(-1, (24, 6))), out[..., 144:]


class ClipBody:
    """The body of each clip in a batch: model, layout landmarks, and the shape where it is given."""

    def __init__(
        self, body: BodyModel, offsets: Tensor, directions: Tensor, parents: Tensor, betas: Tensor | None = None
    ):
        """offsets: (B, 30, 3) m; directions: (B, 30, 3, 10); parents: (30); betas: (B, 10) fixed, or None to solve."""
        self.body, self.offsets, self.directions, self.parents, self.betas = body, offsets, directions, parents, betas

    def shaped(self, betas: Tensor) -> Shaped:
        offsets = self.offsets + torch.einsum("bkcs,bs->bkc", self.directions, betas)
        return Shaped(self.body.rest_joints(betas)[:, None], offsets[:, None], self.parents)

    def posed(self, state: State, obs: Observation) -> Posed:
        """Joints and landmarks in the virtual camera's frame."""
        return self.shaped(state.betas).posed(state.rotations, state.pelvis(obs.size))

    def feedback(self, state: State, obs: Observation, static: Tensor, known: Tensor, limits: Tensor, damping: Tensor) -> Feedback:
        shaped = self.shaped(state.betas)
        asked = torch.ones_like(state.tau[:, 0, :1]).repeat(1, 11)
        asked[:, :10] *= self.betas is None
        asked[:, 10] -= known
        size = state.size(obs.size)
        pelvis = place_pelvis(state.tau, size)
        posed = shaped.posed(state.rotations, pelvis)
        return feedback(
            posed, shaped, state.rotations, pelvis, size, obs, state.contact[..., :4].sigmoid(), static, asked, limits,
            self.body, self.directions, damping,
        )  # fmt: skip
