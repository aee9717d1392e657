# SPDX-License-Identifier: GPL-3.0-or-later
"""What training on a GPU rests on and can be told without one: data drawn ahead, whose devices are trained on."""

import pytest
import torch

from bridge.body.files import load_body
from bridge.body.smpl import BodyModel
from bridge.errors import LgdError
from bridge.lgd.observation import observe
from bridge.lgd.paper import PaperNet
from bridge.lgd.video import ClipBody, VideoNet
from bridge.train import command
from bridge.train.cuda_graph import Gradients, of_tensors, split, tensors_in
from bridge.train.tasks import Disturbance, PaperDraw


def drawn() -> PaperDraw:
    rows = torch.arange(6.0)[:, None]
    return PaperDraw([(rows, torch.tensor(0.5)), Disturbance(rows + 10, rows + 20, rows + 30)], None)


def test_what_is_drawn_for_several_iterations_is_split_among_them():
    parts = split(drawn(), 3)
    assert [tuple(t.shape) for t in tensors_in(parts[1])] == [(2, 1), (), (2, 1), (2, 1), (2, 1)]
    assert torch.equal(parts[2].batch[0][0], torch.tensor([[4.0], [5.0]]))
    assert torch.equal(parts[1].batch[1].spin, torch.tensor([[22.0], [23.0]])) and parts[1].start is None
    assert all(float(part.batch[0][1]) == 0.5 for part in parts), "what all iterations share goes to each"


def test_tensors_are_replaced_where_they_stand():
    doubled = of_tensors(drawn(), lambda tensor: 2 * tensor)
    for mine, theirs in zip(tensors_in(doubled), tensors_in(drawn()), strict=True):
        assert torch.equal(mine, 2 * theirs)


def test_gradients_are_of_what_was_drawn_last():
    net = torch.nn.Linear(1, 1)
    gradients = Gradients(net, lambda batch: (net(batch).sum(), {"sum": batch.sum()}))
    for value in (2.0, 3.0):
        losses = gradients(torch.full((4, 1), value))
        assert float(net.weight.grad) == 4 * value and float(losses["sum"]) == 4 * value


@pytest.mark.parametrize(
    ("arguments", "told"),
    ((["--device", "mps"], "not trained on mps"), (["--device", "abacus"], "not trained on abacus"), (["--device", "cuda:99"], "no device cuda:99")),
)
def test_a_device_that_cannot_be_trained_on_is_a_sentence(arguments, told):
    with pytest.raises(LgdError, match=told):
        command.main(["--plan", "tiny", *arguments])


def test_both_networks_run_wholly_on_another_device():
    """On torch's device without numbers, where most operations on tensors of two devices fail as on a GPU."""
    device = torch.device("meta")
    body = BodyModel(load_body(), device)
    offsets, directions, parents = body.landmarks("coco17")
    count, frames = 2, 70
    clips = ClipBody(body, offsets.expand(count, -1, -1), directions.expand(count, -1, -1, -1), parents)
    seen = observe(torch.empty(count, frames, 30, 2, device=device), torch.empty(count, frames, 30, device=device))
    flag, family = torch.ones(count, device=device), torch.ones(count, 3, device=device)
    with torch.no_grad():
        video = VideoNet().to(device)
        states, features = video(seen, clips, flag, flag, family, steps=2)
        contact, doubt = video.read(features, states[-1], clips, seen, flag)
        assert contact.device == device and contact.shape == (count, frames, 6) and doubt.shape == (count, frames, 24)
        paper = PaperNet(64).fuse().to(device)
        last = paper(torch.empty(3, 18, 2, device=device), torch.empty(3, 18, device=device), body)[-1]
        assert last.joints.device == device and last.joints.shape == (3, 24, 3)
