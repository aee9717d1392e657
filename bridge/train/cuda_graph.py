# SPDX-License-Identifier: GPL-3.0-or-later
"""An iteration's losses and gradients, on a GPU recorded once and replayed.

An iteration is tens of thousands of small operations. A GPU does each in microseconds, less than it takes to ask for one; as
a CUDA graph all of them are asked for at once.
"""

from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass, replace

import torch
from torch import Tensor, nn

WARM_UP = 2  # iterations before recording, in which libraries choose their kernels
AHEAD = 8  # iterations whose data are drawn at once on a GPU: it takes as long as for one


def tensors_in(value) -> Iterator[Tensor]:
    """All tensors in nested dataclasses, lists and tuples, in a fixed order."""
    if isinstance(value, Tensor):
        yield value
    elif is_dataclass(value):
        for field in fields(value):
            yield from tensors_in(getattr(value, field.name))
    elif isinstance(value, list | tuple):
        for part in value:
            yield from tensors_in(part)


def of_tensors(value, function: Callable[[Tensor], Tensor]):
    """The same nested dataclasses, lists and tuples of what `function` makes of their tensors."""
    if isinstance(value, Tensor):
        return function(value)
    if is_dataclass(value):
        return replace(value, **{field.name: of_tensors(getattr(value, field.name), function) for field in fields(value)})
    return type(value)(of_tensors(part, function) for part in value) if isinstance(value, list | tuple) else value


def split(drawn, count: int) -> list:
    """`count` equal parts of what was drawn for as many iterations, along the first axes; numbers go to each."""
    return [
        of_tensors(drawn, lambda tensor, number=number: tensor.chunk(count)[number] if tensor.dim() else tensor)
        for number in range(count)
    ]


class Gradients:
    """`gradients(drawn)` puts the gradients of `loss(drawn)` on the network and returns the loss and its parts.

    loss: of tensors alone, without a question to the GPU; the same operations for drawn tensors of the same shapes.
    """

    def __init__(self, net: nn.Module, loss: Callable[[object], tuple[Tensor, dict[str, Tensor]]]):
        self.net, self.loss = net, loss
        self._recorded: dict[tuple, tuple] = {}

    def __call__(self, drawn) -> dict[str, Tensor]:
        given = list(tensors_in(drawn))
        if not given[0].is_cuda:
            return self._found(drawn)
        shapes = tuple(tuple(tensor.shape) for tensor in given)
        if shapes not in self._recorded:
            self._recorded[shapes] = self._record(drawn)
        graph, own, result, gradients = self._recorded[shapes]
        for mine, new in zip(own, given, strict=True):
            mine.copy_(new)
        graph.replay()
        for parameter, gradient in zip(self.net.parameters(), gradients, strict=True):
            parameter.grad = gradient
        return result

    def _found(self, drawn) -> dict[str, Tensor]:
        self.net.zero_grad(set_to_none=True)
        loss, parts = self.loss(drawn)
        loss.backward()
        return {"loss": loss.detach(), **parts}

    def _record(self, drawn) -> tuple:
        drawn = of_tensors(drawn, Tensor.clone)  # what the graph reads from now on
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(WARM_UP):
                self._found(drawn)
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            result = self._found(drawn)
        return graph, list(tensors_in(drawn)), result, [p.grad for p in self.net.parameters()]
