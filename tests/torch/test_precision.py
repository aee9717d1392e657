# SPDX-License-Identifier: GPL-3.0-or-later
"""How weights are kept: what is folded together or rounded says what it said."""

import torch

from bridge.lgd import precision
from bridge.lgd.paper import PaperNet


def test_a_fused_network_says_what_it_said():
    torch.manual_seed(0)
    net = PaperNet(64, 0.0)
    for layer in net.modules():
        if isinstance(layer, torch.nn.BatchNorm1d):
            layer.running_mean.normal_(std=0.3)
            layer.running_var.uniform_(0.5, 2)
    net.eval()
    points = torch.randn(16, 180)
    with torch.no_grad():
        before = net.pose_update(points)
        net.fuse()
        assert not any(isinstance(layer, torch.nn.BatchNorm1d) for layer in net.modules())
        after = net.pose_update(points)
        assert torch.allclose(after, before, atol=2e-2 * float(before.abs().max())) and not torch.equal(after, before)


def test_large_matrices_ship_in_eight_bits_and_rounding_them_again_changes_nothing():
    torch.manual_seed(0)
    weights = {"large": torch.randn(1024, 1024) * torch.rand(1024, 1), "small": torch.randn(8, 4), "count": torch.tensor(3)}
    weights["large"][5] = 0
    kept = precision.packed(weights)
    assert kept["large"].dtype == torch.int8 and kept["small"].dtype == torch.float16 and kept["count"].dtype == torch.int64
    read = precision.unpacked(kept)
    assert read.keys() == weights.keys() and read["small"].dtype == torch.float32
    step = weights["large"].abs().amax(1, keepdim=True) / 127
    assert ((read["large"] - weights["large"]).abs() <= 0.501 * step).all()
    again, _ = precision.rounded(read["large"] * torch.linspace(-2, 3, 1024)[:, None])
    assert torch.equal(again.abs(), kept["large"].abs())
