# SPDX-License-Identifier: GPL-3.0-or-later
"""Left and right exchanged: how numbers change when the world is seen in a mirror, and networks that change with it.

A person and the mirror image differ in nothing but the names of the sides, and the body is as symmetric as its mocap is
mirrored. A network whose weights are unchanged when every axis of theirs is mirrored gives for mirrored keypoints the mirrored
estimate, exactly: it learns from every pose for both sides at once (Yeh et al. 2019, "Chirality Nets"). Hidden features come
in pairs, the first half of them those of one side, the second half the same of the other.
"""

import torch
from torch import Tensor, nn

from ..body.joints import MIRROR
from ..keypoints.formats import POINT_MIRROR


class Mirror:
    """What becomes of an axis of numbers: number i is replaced by sign[i] times number index[i]. Twice is not at all."""

    def __init__(self, index, sign=None):
        self.index = list(index)
        self.sign = [1.0] * len(self.index) if sign is None else list(sign)
        self._kept: dict[torch.device, tuple[Tensor, Tensor]] = {}

    def __len__(self) -> int:
        return len(self.index)

    def __add__(self, other: "Mirror") -> "Mirror":
        """Both, one after the other on the same axis."""
        return Mirror(self.index + [len(self) + i for i in other.index], self.sign + other.sign)

    def __mul__(self, count: int) -> "Mirror":
        """The same `count` times."""
        out = self
        for _ in range(count - 1):
            out = out + self
        return out

    def of_each(self, signs: tuple[float, ...]) -> "Mirror":
        """The same for entries of several components each, the components with these signs."""
        size = len(signs)
        index = [size * i + c for i in self.index for c in range(size)]
        return Mirror(index, [s * c for s in self.sign for c in signs])

    def __call__(self, values: Tensor, axis: int = -1) -> Tensor:
        """`values` with one axis mirrored."""
        shape = [1] * values.ndim
        shape[axis] = len(self)
        if values.device not in self._kept:
            self._kept[values.device] = tuple(torch.tensor(v, device=values.device) for v in (self.index, self.sign))
        index, sign = self._kept[values.device]
        return values.index_select(axis, index) * sign.to(values.dtype).reshape(shape)


def same(count: int) -> Mirror:
    """Numbers that a mirror leaves alone."""
    return Mirror(range(count))


def pairs(count: int) -> Mirror:
    """Hidden features: half of them for one side, half for the other."""
    return Mirror([*range(count // 2, count), *range(count // 2)])


POINTS = Mirror([int(i) for i in POINT_MIRROR])
JOINTS = Mirror(list(MIRROR))
SIGNED = Mirror([0], [-1.0])
ACROSS = POINTS.of_each((-1.0, 1.0))  # x, y of every point
SIX = JOINTS.of_each((1.0, -1.0, -1.0, -1.0, 1.0, 1.0))  # the first two columns of every joint's rotation
TURNS = JOINTS.of_each((1.0, -1.0, -1.0))  # axis-angle vectors
LIMITS = Mirror([i - 1 for i in MIRROR[1:]]).of_each((1.0, -1.0, -1.0))  # the same without the root's
RATES = JOINTS.of_each((1.0, 1.0, 1.0))  # three numbers for every joint that have no direction
PLACE = same(1) + SIGNED + same(1)  # log depth, dx, dy
VECTOR = SIGNED + same(2)
CONTACTS = Mirror([2, 3, 0, 1, 5, 4])


Axes = list[tuple[nn.Parameter, tuple[tuple[int, Mirror], ...]]]  # parameters with the mirrors of their axes


@torch.no_grad()
def symmetrise(axes: Axes, gradients: bool = False) -> None:
    """Parameters, or their gradients, replaced by the mean of what they are and what they are mirrored."""
    for parameter, mirrors in axes:
        values = parameter.grad if gradients else parameter
        if values is None:
            continue
        other = values
        for axis, mirror in mirrors:
            other = mirror(other, axis)
        values.add_(other).mul_(0.5)


@torch.no_grad()
def begin(axes: Axes) -> None:
    """Make new weights symmetric: one side's rows are the other's mirrored, since the mean of two draws would be smaller."""
    for parameter, mirrors in axes:
        other = parameter
        for axis, mirror in mirrors:
            other = mirror(other, axis)
        if mirrors[0][0] == 0:
            second = [row for row, first in enumerate(mirrors[0][1].index) if first < row]
            parameter[second] = other[second]
    symmetrise(axes)


class PairLinear(nn.Module):
    """A symmetric linear layer between features in pairs. In terms of their sums and differences it is two layers of half
    the size, which is half the work: sums (left + right) to sums, differences to differences."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        size = outputs // 2, inputs // 2
        bound = inputs**-0.5  # of an ordinary layer's weights, which are `even` + `odd` and `even` - `odd`
        self.even = nn.Parameter(torch.empty(size).uniform_(-bound, bound) / 2**0.5)
        self.odd = nn.Parameter(torch.empty(size).uniform_(-bound, bound) / 2**0.5)
        self.bias = nn.Parameter(torch.empty(size[0]).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        """(..., inputs) -> (..., outputs)."""
        return _PairProduct.apply(x.flatten(0, -2), self.even, self.odd, self.bias).unflatten(0, x.shape[:-1])


def _crossed(first: Tensor, second: Tensor, out: tuple[Tensor, Tensor]) -> None:
    torch.add(first, second, out=out[0])
    torch.sub(first, second, out=out[1])


class _PairProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, even, odd, bias):
        sums = x.new_empty((2, len(x), even.shape[1]))
        _crossed(*x.chunk(2, -1), sums)
        ctx.save_for_backward(sums, even, odd)
        out = x.new_empty((len(x), 2 * len(even)))
        _crossed(torch.addmm(bias, sums[0], even.t()), sums[1] @ odd.t(), out.chunk(2, -1))
        return out

    @staticmethod
    def backward(ctx, grad):
        sums, even, odd = ctx.saved_tensors
        back = grad.new_empty((2, len(grad), len(even)))
        _crossed(*grad.chunk(2, -1), back)
        out = grad.new_empty((len(grad), 2 * even.shape[1]))
        _crossed(back[0] @ even, back[1] @ odd, out.chunk(2, -1))
        return out, back[0].t() @ sums[0], back[1].t() @ sums[1], back[0].sum(0)
