# SPDX-License-Identifier: GPL-3.0-or-later
"""Minimisers for many small independent problems at once: every row of a batch has its own energy, its own step, its own
curvature and its own end. Baselines only: the product's fits never use them.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

# (x (A, D), rows (A) of the whole batch) -> energy (A)
Energy = Callable[[Tensor, Tensor], Tensor]
MEMORY = 10  # pairs of steps and gradient changes that L-BFGS keeps
PATIENCE = 3  # iterations in a row with hardly any change that count as converged


@dataclass
class Minimum:
    """x (N, D); energy (N); iterations (N) each row took before it converged or the limit; converged (N) bool."""

    x: Tensor
    energy: Tensor
    iterations: Tensor
    converged: Tensor


def _gradient(energy: Energy, x: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        value = energy(x, rows)
        (gradient,) = torch.autograd.grad(value.sum(), x)
    return value.detach(), torch.nan_to_num(gradient)


class _Ends:
    """Which rows still run: a row ends when its energy changed by less than `tolerance`, relatively, PATIENCE times."""

    def __init__(self, count: int, tolerance: float):
        self.tolerance, self.quiet = tolerance, torch.zeros(count, dtype=torch.long)
        self.iterations = torch.zeros(count, dtype=torch.long)

    def take(self, rows: Tensor, before: Tensor, after: Tensor) -> Tensor:
        """Rows (A) bool that go on."""
        small = (before - after).abs() <= self.tolerance * before.abs().clamp_min(1e-12)
        self.quiet[rows] = torch.where(small, self.quiet[rows] + 1, torch.zeros_like(self.quiet[rows]))
        self.iterations[rows] += 1
        return self.quiet[rows] < PATIENCE


def lbfgs(
    energy: Energy, start: Tensor, limit: int, tolerance: float = 1e-4, scale: Tensor | None = None
) -> Minimum:
    """L-BFGS with a backtracking (Armijo) line search, row by row (Nocedal & Wright, algorithms 7.4 and 7.5).

    start: (N, D); scale: (D) typical size of each coordinate, by which the problem is preconditioned.
    """
    scale = torch.ones(start.shape[1]) if scale is None else scale
    x, rows = start / scale, torch.arange(len(start))
    scaled = lambda y, which: energy(y * scale, which)  # noqa: E731
    out, best = x.clone(), torch.empty(len(x))
    ends = _Ends(len(x), tolerance)
    value, gradient = _gradient(scaled, x, rows)
    best[:] = value
    steps: list[Tensor] = []
    changes: list[Tensor] = []
    fresh = torch.ones(len(x), dtype=torch.bool)  # no usable curvature yet
    for _ in range(limit):
        direction = _two_loops(gradient, steps, changes)
        slope = (direction * gradient).sum(-1)
        uphill = slope >= 0
        direction = torch.where(uphill[:, None], -gradient, direction)
        slope = torch.where(uphill, -gradient.square().sum(-1), slope)
        plain = fresh | uphill
        rate = torch.where(plain, 0.1 / gradient.norm(dim=-1).clamp_min(1e-9), torch.ones_like(value))
        moved, new, new_gradient, ok = _search(scaled, x, rows, value, direction, slope, rate)
        step, change = moved - x, new_gradient - gradient
        curved = (step * change).sum(-1) > 1e-10
        steps.append(torch.where(curved[:, None], step, torch.zeros_like(step)))
        changes.append(torch.where(curved[:, None], change, torch.zeros_like(change)))
        if len(steps) > MEMORY:
            steps.pop(0), changes.pop(0)
        fresh = ~curved
        for pair in range(len(steps)):  # a row whose line search failed starts afresh
            steps[pair] = torch.where(ok[:, None], steps[pair], torch.zeros_like(step))
            changes[pair] = torch.where(ok[:, None], changes[pair], torch.zeros_like(step))
        go = ends.take(rows, value, new)
        x, value, gradient = moved, new, new_gradient
        out[rows], best[rows] = x, value
        if not go.any():
            break
        if go.float().mean() < 0.8:
            rows, x, value, gradient, fresh = rows[go], x[go], value[go], gradient[go], fresh[go]
            steps, changes = [s[go] for s in steps], [c[go] for c in changes]
    return Minimum(out * scale, best, ends.iterations, ends.quiet >= PATIENCE)


def _two_loops(gradient: Tensor, steps: list[Tensor], changes: list[Tensor]) -> Tensor:
    q = -gradient
    along = []
    for s, y in zip(reversed(steps), reversed(changes), strict=True):
        curvature = (s * y).sum(-1)
        rho = torch.where(curvature > 0, 1 / curvature.clamp_min(1e-12), torch.zeros_like(curvature))
        a = rho * (s * q).sum(-1)
        q = q - a[:, None] * y
        along.append((a, rho))
    if steps:
        s, y = steps[-1], changes[-1]
        square = y.square().sum(-1)
        gamma = torch.where(square > 0, (s * y).sum(-1) / square.clamp_min(1e-12), torch.ones_like(square))
        q = q * gamma[:, None]
    for (a, rho), s, y in zip(reversed(along), steps, changes, strict=True):
        q = q + s * (a - rho * (y * q).sum(-1))[:, None]
    return q


def _search(
    energy: Energy, x: Tensor, rows: Tensor, value: Tensor, direction: Tensor, slope: Tensor, rate: Tensor
):
    """Halve each row's step until its energy falls enough; rows that never fall stay where they are."""
    moved = x + rate[:, None] * direction
    new, gradient = _gradient(energy, moved, rows)
    ok = new <= value + 1e-4 * rate * slope
    for _ in range(12):
        if ok.all():
            break
        bad = (~ok).nonzero().squeeze(-1)
        rate = rate.clone()
        rate[bad] *= 0.4
        trial = x[bad] + rate[bad, None] * direction[bad]
        v, g = _gradient(energy, trial, rows[bad])
        moved, new, gradient = moved.clone(), new.clone(), gradient.clone()
        moved[bad], new[bad], gradient[bad] = trial, v, g
        ok = new <= value + 1e-4 * rate * slope
    if not ok.all():
        bad = (~ok).nonzero().squeeze(-1)
        moved, new, gradient = moved.clone(), new.clone(), gradient.clone()
        v, g = _gradient(energy, x[bad], rows[bad])
        moved[bad], new[bad], gradient[bad] = x[bad], v, g
    return moved, new, gradient, ok


def adam(energy: Energy, start: Tensor, limit: int, rates: Tensor, tolerance: float = 1e-4) -> Minimum:
    """Adam (Kingma & Ba 2015), row by row, with a rate for every coordinate (D); each row keeps its best point."""
    x, rows = start.clone(), torch.arange(len(start))
    out, best = start.clone(), torch.full((len(start),), torch.inf)
    ends = _Ends(len(start), tolerance)
    mean, square = torch.zeros_like(x), torch.zeros_like(x)
    before, gradient = _gradient(energy, x, rows)
    best[:] = before
    for t in range(1, limit + 1):
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.999 * square + 0.001 * gradient.square()
        x = x - rates * (mean / (1 - 0.9**t)) / ((square / (1 - 0.999**t)).sqrt() + 1e-8)
        value, gradient = _gradient(energy, x, rows)
        better = value < best[rows]
        best[rows] = torch.where(better, value, best[rows])
        out[rows] = torch.where(better[:, None], x, out[rows])
        go = ends.take(rows, before, value)
        before = value
        if not go.any():
            break
        if go.float().mean() < 0.8:
            rows, x, before, gradient = rows[go], x[go], before[go], gradient[go]
            mean, square = mean[go], square[go]
    return Minimum(out, best, ends.iterations, ends.quiet >= PATIENCE)
