# SPDX-License-Identifier: GPL-3.0-or-later
"""Damped Gauss-Newton (Levenberg-Marquardt) steps for a clip: of every frame's pose, and of what all frames share.

Both solve linear systems in closed form, without automatic differentiation; how far a step dares to move each joint may be
learned through it (`Solution`).
"""

import copy

import torch
from torch import Tensor

from ..body.joints import LEVELS, PARENTS
from ..body.smpl import BELOW, BodyModel, Posed
from ..rotations import times

# In boxes a rad^2 (the pelvis's move: a m^2): less curvature than that counts as unseen.
DAMPING, DAMPING_ROOT, DAMPING_PLACE = 0.3, 0.1, 0.03
# Of the clip's common step: one that trusts the points and one that hardly does; the network mixes them.
DAMPING_CLIP = 0.03, 0.5
CLIP_FRAMES = 32  # frames that this step is found from


def usual_damping(like: Tensor) -> Tensor:
    """(25) of the joints' turns and the pelvis's move."""
    damping = like.new_full((25,), DAMPING)
    damping[:1], damping[24:] = DAMPING_ROOT, DAMPING_PLACE
    return damping


class Tree:
    """The damped Gauss-Newton (Levenberg-Marquardt) system of all joints and the pelvis together, with no matrix larger
    than 6 x 6: it has the shape of a tree, as a robot's equations of motion have, and is solved as theirs are, by
    Featherstone's articulated-body algorithm (1983).

    A joint j turning by w moves a point x below it by w x (x - p_j) = w x x + v, v = p_j x w: one twist (w, v) about the
    pelvis for all points below. The rows of a point's projection against twists are (x x r, r).
    Components come first and frames last within: all products of small matrices then are sums over whole rows of frames.
    """

    def __init__(
        self, posed: Posed, pelvis: Tensor, size: Tensor, parents: Tensor, weight: Tensor, damping: Tensor
    ):
        """pelvis: (B, T, 3) m; size: (B, T, 1); parents: (30); weight: (B, T, 30) of the squared residuals; damping:
        (B, T, 25) of the joints' turns and the pelvis's move."""
        flat = lambda v: v.flatten(0, 1).movedim(0, -1)  # noqa: E731
        origin = flat(pelvis)
        points, joints = flat(posed.points).transpose(0, 1), flat(posed.joints).transpose(0, 1)  # (3, 30 | 24, N)
        x, y, z = points - origin[:, None]
        depth = points[2].clamp_min(0.1)
        a, b = points[0] / depth, points[1] / depth
        self.parents, self.root, self.damping = parents, flat(weight).sqrt(), flat(damping)
        scale = self.root / (depth * size.flatten())
        none = torch.zeros_like(z)
        first = torch.stack((-a * y, z + a * x, -y, none + 1, none, -a)) * scale  # (6, 30, N)
        second = torch.stack((-b * y - z, b * x, x, none, none + 1, -b)) * scale
        self.rows = first, second
        self.on = torch.nn.functional.one_hot(parents, 24).to(first).T  # (24, 30)
        pairs = torch.cat([(first[i] * first[i:]).addcmul_(second[i], second[i:]) for i in range(6)])
        inertia = (self.on @ pairs)[_FULL].unflatten(0, (6, 6))  # (6, 6, 24, N)
        px, py, pz = joints - origin[:, None]
        none = torch.zeros_like(px)
        arm = torch.stack((none, pz, -py, -pz, none, px, py, -px, none)).unflatten(0, (3, 3))  # v = p x w = arm^T w
        self.kept = []
        for level, above in reversed(_LEVELS):
            m, p = inertia[:, :, level], arm[:, :, level]
            u = times(m[:, 3:], p.transpose(0, 1)) + m[:, :3]  # (6, 3, n, N) M S
            inverse = _inverse(times(p, u[3:]) + u[:3], self.damping[level])
            gain = times(u, inverse)
            m = m - times(gain, u.transpose(0, 1))
            inertia.index_add_(2, above.to(m.device), m)
            self.kept.append((u, inverse, gain, p))
        self.inertia = inertia[:, :, 0]  # of the whole body

    def of(self, frames: Tensor) -> "Tree":
        """The system of some of the frames, by their place among all of the batch."""
        part = copy.copy(self)
        part.rows = self.rows[0][..., frames], self.rows[1][..., frames]
        part.root, part.damping, part.inertia = self.root[..., frames], self.damping[..., frames], self.inertia[..., frames]
        part.kept = [tuple(v[..., frames] for v in level) for level in self.kept]
        return part

    def weighted(self, residual: Tensor) -> Tensor:
        """Residuals (R, B, T, 30, 2) boxes as `solve` takes them."""
        return residual.flatten(1, 2).permute(3, 0, 2, 1) * self.root

    def solve(self, error: Tensor) -> Tensor:
        """Twists (6, R, 24, N) of all joints that best take away the errors (2, R, 30, N), each of R for itself."""
        first, second = self.rows
        return self._sweep(self.on @ (first[:, None] * error[0]).addcmul_(second[:, None], error[1]))

    def answer(self, turns: Tensor, moves: Tensor) -> Tensor:
        """Twists (6, R, 24, N) down the slopes of an energy in the joints' turns (3, R, 24, N) and the pelvis's moves (3, R, N)."""
        slope = torch.cat((torch.zeros_like(turns), torch.zeros_like(turns)))
        slope[:, :, 0] = torch.cat((turns[:, :, 0], moves))
        return self._sweep(slope, turns)

    def _sweep(self, bias: Tensor, own: Tensor | None = None) -> Tensor:
        """From the tips to the pelvis and back. bias: (6, R, 24, N) of twists; own: (3, R, 24, N) of the joints' own turns."""
        torques = []
        for (level, above), (_, _, gain, p) in zip(reversed(_LEVELS), self.kept, strict=True):
            f = bias[:, :, level]
            torque = times(p, f[3:]) + f[:3]
            torques.append(torque if own is None else torque + own[:, :, level])
            f = f - times(gain, torques[-1])
            bias.index_add_(2, above.to(f.device), f)
        twists = torch.empty_like(bias)
        twists[:, :, 0] = self._root_twist(bias[:, :, 0])
        for (level, above), (u, inverse, _, p), torque in zip(_LEVELS, reversed(self.kept), reversed(torques), strict=True):
            before = twists[:, :, above]
            turn = -times(inverse, times(u.transpose(0, 1), before) + torque)
            twists[:, :, level] = before + torch.cat((turn, times(p.transpose(0, 1), turn)))
        return twists

    def _root_twist(self, bias: Tensor) -> Tensor:
        """The pelvis's twists (6, R, N), its turn and its move damped each in its own measure."""
        mixed, move = self.inertia[:3, 3:], _inverse(self.inertia[3:, 3:], self.damping[24])
        gain = times(mixed, move)
        inverse = _inverse(self.inertia[:3, :3] - times(gain, mixed.transpose(0, 1)), self.damping[0])
        turn = -times(inverse, bias[:3] - times(gain, bias[3:]))
        place = -times(move, bias[3:] + times(mixed.transpose(0, 1), turn))
        return torch.cat((turn, place))

    def turns(self, twists: Tensor) -> Tensor:
        """Every joint's own turn (3, R, 24, N) in the camera's axes."""
        own = (twists[:3, :, level] - twists[:3, :, above] for level, above in _LEVELS)
        return torch.cat((twists[:3, :, :1], *own), 2)

    def seen(self, twists: Tensor) -> Tensor:
        """How twists move the points in the image: (2, R, 30, N), weighted as errors are."""
        at = twists[:, :, self.parents]
        return torch.stack([(row[:, None] * at).sum(0) for row in self.rows])


class Solution(torch.autograd.Function):
    """A tree's step as a function of the logarithm of its damping (B, T, 25), which is learned through it: turns (3, R, 24, N)
    and moves (3, R, N). The derivative of a solution is a solution of the same system, so going back costs as much as
    going forth."""

    @staticmethod
    def forward(ctx, damping: Tensor, tree: Tree, error: Tensor) -> tuple[Tensor, Tensor]:
        twists = tree.solve(error)
        ctx.kept = tree, twists, damping.shape[:2]
        return tree.turns(twists), twists[3:, :, 0].clone()  # what is returned must not be kept: it would keep this in turn

    @staticmethod
    def backward(ctx, by_turns: Tensor, by_moves: Tensor) -> tuple[Tensor, None, None]:
        tree, twists, shape = ctx.kept
        answer = tree.answer(by_turns, by_moves)
        turned = (tree.turns(answer) * tree.turns(twists)).sum((0, 1))
        moved = (answer[3:, :, 0] * twists[3:, :, 0]).sum((0, 1))
        by_damping = torch.cat((turned, moved[None])) * tree.damping
        return by_damping.T.unflatten(0, shape), None, None


def pose_step(tree: Tree, error: Tensor, world: Tensor, damping: Tensor) -> tuple[Tensor, Tensor]:
    """Turns (R, B, T, 24, 3) rad in the joints' own axes and the pelvis's moves (R, B, T, 3) m that best take away R errors.

    error: (2, R, 30, N) as `Tree.weighted` gives it; world: (B, T, 24, 3, 3) of the joints; damping: the logarithm of the
    tree's own, which the step teaches.
    """
    turns, moves = Solution.apply(damping, tree, error)
    last = lambda v: v.movedim((1, -1), (0, 1)).unflatten(1, world.shape[:2])  # noqa: E731
    # Damped alike in all directions, so solved in the camera's axes.
    return (world.transpose(-1, -2) @ last(turns).transpose(-1, -2)[..., None]).squeeze(-1), last(moves)


def clip_step(
    tree: Tree, posed: Posed, pelvis: Tensor, size: Tensor, residual: Tensor, body: BodyModel, directions: Tensor,
    asked: Tensor,
) -> Tensor:  # fmt: skip
    """The damped Gauss-Newton step (B, 11, len(DAMPING_CLIP)) of what a whole clip has in common, betas and log focal length, for
    every damping: what of the residuals no pose can take away, asks for another shape (the Schur complement of the poses'
    system). Frames are many and shapes few, so some frames say it all.

    residual: (B, T, 30, 2); directions: (B, 30, 3, 10) of the landmarks; asked: (B, 11), what is not stays.
    """
    count, frames = pelvis.shape[:2]
    if frames > CLIP_FRAMES:
        some = torch.linspace(0, frames - 1, CLIP_FRAMES, device=pelvis.device).long()
        tree = tree.of((torch.arange(count, device=pelvis.device)[:, None] * frames + some).flatten())
        posed = Posed(posed.joints[:, some], posed.points[:, some], posed.world[:, some])
        pelvis, size, residual = pelvis[:, some], size[:, some], residual[:, some]
        frames = len(some)
    columns = _clip_columns(posed, pelvis, size, tree.parents, body, directions) * asked.T[:, :, None, None, None]
    errors = tree.weighted(torch.cat((residual[None], columns)))
    left = errors + tree.seen(tree.solve(errors))
    split = lambda v: v.unflatten(-1, (count, frames)).permute(3, 1, 0, 2, 4).flatten(2)  # noqa: E731
    system = split(errors) @ split(left).transpose(-1, -2)  # (B, 12, 12)
    if system.device.type == "mps":
        system = system.cpu()  # where it is not sure to be solved
    slope, curvature = system[:, 1:, :1], system[:, 1:, 1:]
    eye = torch.eye(curvature.shape[-1], device=system.device)
    steps = [-torch.linalg.solve_ex(curvature + damping * eye, slope).result for damping in DAMPING_CLIP]  # definite: no check
    return torch.cat(steps, -1).to(pelvis)


def _clip_columns(
    posed: Posed, pelvis: Tensor, size: Tensor, parents: Tensor, body: BodyModel, directions: Tensor
) -> Tensor:
    """How betas and log focal length move the points in the image while pose and tau stay: (11, B, T, 30, 2) boxes."""
    bones = torch.einsum("btjik,jks->sbtji", posed.world[..., _ABOVE, :, :], body.joint_shapes - body.joint_shapes[_ABOVE])
    bones[..., 0, :] = 0  # the pelvis stays
    own = torch.einsum("btpik,bpks->sbtpi", posed.world[..., parents, :, :], directions)
    moved = torch.einsum("jp,sbtji->sbtpi", BELOW.to(bones)[:, parents], bones) + own
    depth = posed.points[..., 2:].clamp_min(0.1)
    at = posed.points[..., :2] / depth
    by_shape = (moved[..., :2] - at * moved[..., 2:]) / depth / size[..., None]
    by_focal = at / size[..., None] * (1 - pelvis[..., None, 2:] / depth)
    return torch.cat((by_shape, by_focal[None]))


_PAIRS = [(i, j) for i in range(6) for j in range(i, 6)]
_FULL = torch.tensor([_PAIRS.index((min(i, j), max(i, j))) for i in range(6) for j in range(6)])
_ABOVE = torch.tensor([max(p, 0) for p in PARENTS])
# SMPL numbers its joints level by level: a level's joints as a slice, and their parents.
_LEVELS = [(slice(level[0], level[-1] + 1), torch.tensor([PARENTS[j] for j in level])) for level in LEVELS[1:]]


def _inverse(matrix: Tensor, damping: Tensor) -> Tensor:
    """Of symmetric (3, 3, ...) matrices plus `damping` (...) on the diagonal, by the adjugate."""
    entries = matrix.flatten(0, 1).clone()
    entries[::4] += damping
    a, b, c, d = entries.index_select(0, _FACTORS.to(matrix.device)).unflatten(0, (4, 6))
    adjugate = (a * b).addcmul_(c, d, value=-1)
    determinant = (entries[:3] * adjugate[:3]).sum(0)
    return (adjugate / determinant).index_select(0, _BOTH.to(matrix.device)).unflatten(0, (3, 3))


# The adjugate's six entries xx, xy, xz, yy, yz, zz as a b - c d, by where these stand among the matrix's nine; and those nine.
_FACTORS = torch.tensor([[4, 2, 1, 0, 1, 0], [8, 5, 5, 8, 2, 4], [5, 1, 2, 2, 0, 1], [5, 8, 4, 2, 5, 1]]).flatten()
_BOTH = torch.tensor([0, 1, 2, 1, 3, 4, 2, 4, 5])
