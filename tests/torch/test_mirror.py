# SPDX-License-Identifier: GPL-3.0-or-later
"""What the video network says of a person and of the mirror image is the same but for left and right."""

from dataclasses import replace

import pytest
import torch

from bridge.body.files import load_body
from bridge.body.joints import MIRROR
from bridge.body.smpl import BodyModel
from bridge.keypoints.formats import POINT_MIRROR
from bridge.lgd import mirror
from bridge.lgd.observation import observe
from bridge.lgd.solve_video import VideoSolver
from bridge.lgd.video import VideoConfig, VideoNet

SIDE = torch.tensor([-1.0, 1.0, 1.0])
POINTS = torch.as_tensor(POINT_MIRROR.copy())


@pytest.fixture(scope="module")
def net() -> VideoNet:
    """A network that has left its beginning: every weight moved, symmetrically."""
    torch.manual_seed(0)
    net = VideoNet(VideoConfig(32, (1, 2), (1,), 5, 2))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.03 * torch.randn(parameter.shape))
    mirror.symmetrise(net.axes())
    return net.eval().requires_grad_(False)


def both_sides(net: VideoNet, layout: str):
    """Estimates of a clip and of its mirror image."""
    gen = torch.Generator().manual_seed(1)
    rays = torch.randn(1, 1, 30, 2, generator=gen) * 0.1 + 0.01 * torch.randn(1, 12, 30, 2, generator=gen).cumsum(1)
    confidence = torch.rand(1, 12, 30, generator=gen)
    solver = VideoSolver(net, BodyModel(load_body()), layout)
    known, static = torch.zeros(1), torch.ones(1)
    for points, seen in ((rays, confidence), (rays[:, :, POINTS] * SIDE[:2], confidence[:, :, POINTS])):
        obs, body = observe(points, seen), solver.clip_body(1, None)
        states, features = net(obs, body, known, static, solver.family)
        contact, doubt = net.read(features, states[-1], body, obs, static)
        yield [*states, replace(states[-1], contact=contact, doubt=doubt)]


@pytest.mark.parametrize("layout", ("coco17", "body25b", "blazepose33"))
def test_mirrored_keypoints_get_the_mirrored_estimate(net, layout):
    joints = torch.tensor(MIRROR)
    for state, other in zip(*both_sides(net, layout), strict=True):
        same = lambda a, b: torch.testing.assert_close(a, b, atol=2e-4, rtol=1e-3)  # noqa: E731
        same(other.rotations[:, :, joints] * SIDE[:, None] * SIDE, state.rotations)
        same(other.tau * torch.tensor([1.0, -1.0, 1.0]), state.tau)
        same(other.betas, state.betas)
        same(other.focal, state.focal)
        same(other.contact[..., [2, 3, 0, 1, 5, 4]], state.contact)
        same(other.up * SIDE, state.up)
        same(other.doubt[..., joints], state.doubt)


def test_no_weight_is_without_a_mirror(net):
    """A parameter that nothing keeps symmetric would break the rule when it is trained."""
    kept = {id(p) for p, _ in net.axes()}
    for module in net.modules():
        if isinstance(module, mirror.PairLinear):
            kept |= {id(p) for p in module.parameters()}
    assert [n for n, p in net.named_parameters() if id(p) not in kept and not n.startswith("touch.")] == []


def test_a_mirror_twice_is_none_at_all():
    for one in (mirror.ACROSS, mirror.SIX, mirror.TURNS, mirror.LIMITS, mirror.PLACE, mirror.CONTACTS, mirror.pairs(8)):
        values = torch.randn(3, len(one), 2)
        assert torch.equal(one(one(values, 1), 1), values) and not torch.equal(one(values, 1), values)


def test_a_pair_layer_is_an_ordinary_one_with_a_symmetric_weight():
    layer = mirror.PairLinear(6, 10).double()
    near, far = layer.even + layer.odd, layer.even - layer.odd  # of the same side, of the other
    weight = torch.cat((torch.cat((near, far), 1), torch.cat((far, near), 1)))
    x = torch.randn(2, 3, 6, dtype=torch.float64, requires_grad=True)
    expected = torch.nn.functional.linear(x, weight, torch.cat((layer.bias, layer.bias)))
    torch.testing.assert_close(layer(x), expected)
    assert torch.autograd.gradcheck(lambda v: layer(v), x)
    assert torch.autograd.gradcheck(lambda e, o, b: mirror._PairProduct.apply(x.flatten(0, 1), e, o, b), tuple(layer.parameters()))


def test_new_weights_are_symmetric_and_of_the_usual_size():
    torch.manual_seed(0)
    net = VideoNet()
    before = {n: p.clone() for n, p in net.named_parameters()}
    mirror.symmetrise(net.axes())
    for name, parameter in net.named_parameters():
        torch.testing.assert_close(parameter, before[name], atol=1e-7, rtol=1e-5)
    seen = net.inlet[0].weight[:, :-60]
    assert abs(float(seen.detach().std()) * (3 * net.inlet[0].in_features) ** 0.5 - 1) < 0.05
