# SPDX-License-Identifier: GPL-3.0-or-later
"""Training on a folder of one's own files: what is kept to validate, and that a resumed run is the run it goes on from."""

from dataclasses import replace

import pytest
import torch

from bridge.body.files import load_body
from bridge.body.smpl import BodyModel
from bridge.errors import LgdError
from bridge.lgd.checkpoint import load_network
from bridge.lgd.mirror import symmetrise
from bridge.lgd.observation import observe
from bridge.lgd.video import TimeConv, VideoConfig
from bridge.train import command, config, loop


def test_too_few_files_of_ones_own_leave_nothing_to_validate_with(folder):
    body = BodyModel(load_body())
    whole = loop.all_mocap(body, [folder])
    assert whole.split.count("val") == 1 and whole.split.count("train") == 19
    next(folder.rglob("*.npz")).unlink()
    with pytest.raises(LgdError, match="too few"):
        loop.all_mocap(body, [folder])
    with pytest.raises(LgdError, match="was not found"):
        loop.all_mocap(body, [])


def test_a_resumed_run_repeats_the_one_it_goes_on_from(folder, tmp_path, monkeypatch):
    plan = config.PLANS["tiny"]
    whole = loop.Run(plan, tmp_path / "whole", False, None, [folder])
    whole.go()

    broken = loop.Run(plan, tmp_path / "broken", False, None, [folder])
    own, calls = broken.task.loss, iter(range(100))

    def loss(*arguments):
        if next(calls) == 4:  # one iteration into the second phase
            broken.save()
            raise KeyboardInterrupt
        return own(*arguments)

    monkeypatch.setattr(broken.task, "loss", loss)
    with pytest.raises(KeyboardInterrupt):
        broken.go()
    resumed = loop.Run(plan, tmp_path / "broken", True, None, [folder])
    assert (resumed.phase, resumed.iteration) == (1, 1)
    resumed.go()
    for a, b in zip(whole.net.state_dict().values(), resumed.net.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    for a, b in zip(whole.net.state_dict().values(), whole.average.net.state_dict().values(), strict=True):
        assert torch.equal(a, b), "a phase ends with the averaged weights, on which the next builds"
    saved = torch.load(tmp_path / "broken" / "best.pt", weights_only=True)
    assert saved["figures"]["plain_clean_s2"] > 0 and len(saved["commit"]) >= 7


def test_processes_train_one_network_together(folder, tmp_path):
    """Each has its part of the batch; one of them saves and logs."""
    arguments = (config.PLANS["tiny"], tmp_path / "run", False, None, [folder])
    alone = loop.Run(config.PLANS["tiny"], tmp_path / "alone", False, None, [folder])
    alone.go()
    loop.go_together(arguments, 2, 1)
    saved = torch.load(tmp_path / "run" / "last.pt", weights_only=True)
    assert saved["phase"] == len(config.PLANS["tiny"].phases)
    moved = [name for name, value in alone.net.state_dict().items() if not torch.equal(value, saved["net"][name])]
    assert moved, "other draws, other weights"
    rows = (tmp_path / "run" / "log.jsonl").read_text().splitlines()
    assert len(rows) == len((tmp_path / "alone" / "log.jsonl").read_text().splitlines())


@pytest.mark.parametrize("processes", (1, 2))
def test_missing_data_is_a_sentence_and_leaves_no_folder(tmp_path, monkeypatch, processes):
    monkeypatch.setenv("LGD_DATA", str(tmp_path / "none"))
    monkeypatch.setattr(command, "_keep_memory", lambda argv: None)
    with pytest.raises(LgdError, match="was not found"):
        command.main(["--plan", "tiny", "--out", str(tmp_path / "runs" / "tiny"), "--threads", str(torch.get_num_threads()), "--processes", str(processes)])
    assert not list(tmp_path.iterdir())


def test_gradients_are_the_mean_of_all_processes(tmp_path):
    torch.multiprocessing.spawn(_mean_of_two, (str(tmp_path),), 2)
    assert torch.equal(torch.load(tmp_path / "0.pt"), torch.tensor([1.5, 3.0]))
    assert torch.equal(torch.load(tmp_path / "1.pt"), torch.tensor([1.5, 3.0]))


def _mean_of_two(rank: int, folder: str) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    layer = torch.nn.Linear(2, 1)
    (layer.weight @ torch.tensor([1.0, 2.0]) * (rank + 1)).sum().backward()
    layer.bias.grad = None
    loop.average_gradients(layer)
    torch.save(layer.weight.grad[0], f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def test_a_network_of_single_frames_gives_the_same_on_clips(folder):
    """Taps and inputs that single frames never train must not disturb the first clips."""
    plan = config.PLANS["tiny"]
    net = loop.Run(plan, folder.parent / "run", False, None, [folder]).net
    taps = [m.weight for m in net.modules() if isinstance(m, TimeConv)]
    assert taps and all(int((t != 0).any(1).sum()) == 1 for t in taps)
    points = torch.rand(2, 5, 30, 2) * 0.2
    ones, family = torch.ones(2), torch.eye(3)[:2]
    obs = observe(points, torch.ones(2, 5, 30))
    assert obs.velocity.abs().max() > 0
    features = net.encode(obs, ones, ones, family)
    alone = [net.encode(type(obs)(*(getattr(obs, n)[:, f : f + 1] for n in obs.__dataclass_fields__)), ones, ones, family) for f in range(5)]
    assert torch.allclose(features, torch.cat(alone, 1), atol=1e-5)


def test_a_block_more_changes_nothing_until_it_is_trained(folder, tmp_path):
    small = replace(config.PLANS["tiny"], video=VideoConfig(32, (1, 2), (1,), steps=2))
    large = replace(small, video=VideoConfig(32, (1, 2, 4), (1, 4), steps=2))
    run = loop.Run(small, tmp_path / "small", False, None, [folder])
    run.export(tmp_path / "small.pt", {})
    grown = loop.Run(large, tmp_path / "large", False, tmp_path / "small.pt", [folder])
    anew = loop.Run(large, tmp_path / "anew", False, None, [folder])
    obs = observe(torch.rand(2, 5, 30, 2, generator=torch.Generator().manual_seed(0)) * 0.2, torch.ones(2, 5, 30))
    first, same, other = (one.net.encode(obs, torch.ones(2), torch.ones(2), torch.eye(3)[:2]) for one in (run, grown, anew))
    assert (same - first).abs().max() < 0.01, "but for half precision"
    assert (other - first).abs().max() > 0.5


def test_a_further_step_begins_as_the_last_one(folder, tmp_path):
    plan = replace(config.PLANS["tiny"], video=VideoConfig(16, (1,), (1,), steps=2))
    run = loop.Run(plan, tmp_path / "two", False, None, [folder])
    run.export(tmp_path / "two.pt", {})
    more = replace(plan, video=replace(plan.video, steps=4))
    stages = loop.Run(more, tmp_path / "four", False, tmp_path / "two.pt", [folder]).net.stage.weight
    assert torch.equal(stages[2], stages[1]) and torch.equal(stages[3], stages[1]) and not torch.equal(stages[1], stages[0])


def test_weights_of_another_network_are_no_start(folder, tmp_path):
    small = replace(config.PLANS["tiny"], video=VideoConfig(16, (1,), (1,), steps=2))
    loop.Run(small, tmp_path / "small", False, None, [folder]).export(tmp_path / "small.pt", {})
    with pytest.raises(LgdError, match="another network"):
        loop.Run(config.PLANS["tiny"], tmp_path / "run", False, tmp_path / "small.pt", [folder])


def test_a_run_of_another_version_is_not_resumed(folder, tmp_path):
    run = loop.Run(config.PLANS["tiny"], tmp_path / "run", False, None, [folder])
    run.save()
    saved = torch.load(tmp_path / "run" / "last.pt", weights_only=True)
    saved["optimiser"] = saved.pop("optimisers")[0]
    torch.save(saved, tmp_path / "run" / "last.pt")
    with pytest.raises(LgdError, match="another version"):
        loop.Run(config.PLANS["tiny"], tmp_path / "run", True, None, [folder])


def test_a_run_of_another_width_is_not_resumed(folder, tmp_path):
    loop.Run(config.PLANS["tiny"], tmp_path / "run", False, None, [folder]).save()
    small = replace(config.PLANS["tiny"], video=VideoConfig(16, (1,), (1,), steps=2))
    with pytest.raises(LgdError, match="another plan"):
        loop.Run(small, tmp_path / "run", True, None, [folder])


def test_what_is_no_run_of_this_plan_is_not_resumed(folder, tmp_path):
    tiny = config.PLANS["tiny"]
    loop.Run(tiny, tmp_path / "run", False, None, [folder]).save()
    loop.Run(tiny, tmp_path / "run", True, None, [folder])
    with pytest.raises(LgdError, match="another plan"):
        loop.Run(replace(tiny, name="other"), tmp_path / "run", True, None, [folder])
    whole = (tmp_path / "run" / "last.pt").read_bytes()
    for torn in (b"", whole[: len(whole) // 3]):
        (tmp_path / "run" / "last.pt").write_bytes(torn)
        with pytest.raises(LgdError, match="is damaged"):
            loop.Run(tiny, tmp_path / "run", True, None, [folder])


def test_a_run_is_not_begun_over_another(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(command, "_keep_memory", lambda argv: None)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "last.pt").write_bytes(b"a week's work")
    with pytest.raises(LgdError, match="a run in .* already") as told:
        command.main(["--plan", "tiny", "--out", str(tmp_path / "run"), "--data", str(folder)])
    assert "--resume" in told.value.hint and (tmp_path / "run" / "last.pt").read_bytes() == b"a week's work"
    (tmp_path / "link").symlink_to(tmp_path / "gone" / "further")
    with pytest.raises(LgdError, match="cannot be made"):
        loop.Run(config.PLANS["tiny"], tmp_path / "link", False, None, [folder])
    for name in ("--out", "--data", "--init"):
        with pytest.raises(LgdError, match="has no name"):
            command.main(["--plan", "tiny", name, ""])


def test_a_full_disk_leaves_what_was_there(folder, tmp_path, monkeypatch):
    run = loop.Run(config.PLANS["tiny"], tmp_path / "run", False, None, [folder])
    run.save()
    before = (tmp_path / "run" / "last.pt").read_bytes()

    def full(saved, path):
        path.write_bytes(b"half")
        raise RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos")

    monkeypatch.setattr(torch, "save", full)
    for write in (run.save, lambda: run.export(tmp_path / "out.pt", {})):
        with pytest.raises(LgdError, match="cannot be written") as caught:
            write()
        assert caught.value.exit_code == 2
    assert (tmp_path / "run" / "last.pt").read_bytes() == before and not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize(
    "arguments, told",
    [
        (["--export", "out.pt", "--out", "nowhere"], "no run in nowhere"),
        (["--mode", "paper"], "The plan tiny trains video mode"),
        (["--out", "text.pt"], "text.pt is a file"),
        (["--init", "none.pt"], "none.pt is no file of exported weights"),
        (["--init", "text.pt"], "text.pt is no file of exported weights"),
    ],
)
def test_files_that_are_not_there_are_told(arguments, told, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "0")  # set, so the command does not start itself again
    (tmp_path / "text.pt").write_text("weights")
    with pytest.raises(LgdError, match=told):
        command.main(["--plan", "tiny", "--data", str(folder), *arguments])
    assert not (tmp_path / "out.pt").exists()


def test_what_a_family_of_layouts_learns_is_its_own(folder, tmp_path):
    plan = replace(config.PLANS["tiny"], video=VideoConfig(16, (1,), (1,), steps=2))
    loop.Run(plan, tmp_path / "all", False, None, [folder]).export(tmp_path / "all.pt", {})
    alone = replace(plan, phases=(plan.phases[1],), family="blaze")
    run = loop.Run(alone, tmp_path / "own", False, tmp_path / "all.pt", [folder])
    drawn = run.task.draw(run.net, run.sampler, alone.phases[0], torch.Generator().manual_seed(0))
    assert {run.task.sets.layouts[k] for batch, _ in drawn.batches for k in batch.layout.tolist()} == {"blazepose33"}
    run.go()

    begun, saved = (torch.load(file, weights_only=True) for file in (tmp_path / "all.pt", tmp_path / "own" / "best.pt"))
    assert all(torch.equal(value, begun["weights"][name]) for name, value in saved["weights"].items())
    assert saved["plan"] == begun["plan"] and saved["families"]["blaze"]["plan"]["family"] == "blaze"
    own = saved["families"]["blaze"]["weights"]
    assert {"step.weight", "update.0.value.even", "encoder.0.norm1.weight"} <= own.keys()
    assert not {"encoder.0.value.even", "encoder.0.mlp.0.odd"} & own.keys()  # what weighs most in the file stays all families'
    nets = {name: load_network("video", path=tmp_path / "own" / "best.pt", family=name).state_dict() for name in (None, "coco", "blaze")}
    assert torch.equal(nets["coco"]["step.weight"], nets[None]["step.weight"])
    assert torch.equal(nets["blaze"]["step.weight"], own["step.weight"].float())
    assert torch.equal(nets["blaze"]["encoder.0.value.even"], nets[None]["encoder.0.value.even"])

    half = loop.Run(replace(alone, share=0.5), tmp_path / "own", True, None, [folder])
    half.export(tmp_path / "half.pt", {})
    middle = torch.load(tmp_path / "half.pt", weights_only=True)["families"]["blaze"]["weights"]["step.weight"].float()
    ends = [weights["step.weight"].float() for weights in (begun["weights"], own)]
    assert (ends[1] - ends[0]).abs().max() > 1e-3
    assert torch.allclose(middle, (ends[0] + ends[1]) / 2, atol=1e-5)

    deeper = replace(alone, video=VideoConfig(16, (1, 2), (1,), steps=2))
    with pytest.raises(LgdError, match="another network"):
        loop.Run(deeper, tmp_path / "deeper", False, tmp_path / "all.pt", [folder])

    another = replace(alone, family="coco")
    further = loop.Run(another, tmp_path / "coco", False, tmp_path / "own" / "best.pt", [folder])
    further.save()
    loop.Run(another, tmp_path / "coco", True, None, [folder]).export(tmp_path / "both.pt", {})
    assert torch.load(tmp_path / "both.pt", weights_only=True)["families"].keys() == {"blaze", "coco"}


def test_training_keeps_the_network_symmetric(folder, tmp_path):
    run = loop.Run(config.PLANS["tiny"], tmp_path / "run", False, None, [folder])
    begun = run.net.state_in.weight.clone()
    run.go()
    trained = [p.clone() for p, _ in run.axes]
    assert not torch.equal(begun, run.net.state_in.weight)
    symmetrise(run.axes)
    for parameter, before in zip((p for p, _ in run.axes), trained, strict=True):
        torch.testing.assert_close(parameter, before, atol=1e-6, rtol=1e-5)


def test_steps_can_be_trained_alone_on_clips(folder, tmp_path):
    phases = tuple(config.Phase(2, 2, 12, 2, 1e-3, 1e-3, 0.5, 4, check_every=2, updates=updates) for updates in (True, False))
    run = loop.Run(replace(config.PLANS["tiny"], phases=phases), tmp_path / "run", False, None, [folder])
    for held in (True, False):
        before = {name: value.clone() for name, value in run.net.state_dict().items()}
        run._train(run.plan.phases[run.phase])
        run.phase, run.iteration = run.phase + 1, 0
        moved = {name.split(".")[0] for name, value in run.net.state_dict().items() if not torch.equal(value, before[name])}
        assert {"update", "state_in", "step", "trust"} <= moved
        assert ({"inlet", "encoder", "norm", "head", "head_clip"} & moved == set()) is held


@pytest.mark.parametrize("updates", (True, False))
def test_the_papers_steps_can_be_trained_alone_and_from_footage(folder, tmp_path, updates):
    phase = config.Phase(3, 32, 1, 2, 1e-3, 1e-3, check_every=3, updates=updates, footage=True)
    run = loop.Run(config.Plan("p", "paper", (phase,), width=16, dropout=0.0), tmp_path / "run", False, None, [folder])
    before = {name: value.clone() for name, value in run.net.state_dict().items()}
    run.go()
    moved = {name.split(".")[0] for name, value in run.net.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {"pose_update", "shape_update"} | (set() if updates else {"pose_first", "shape_first"})


def test_muons_matrices_are_orthogonal_in_single_precision_as_in_torchs_own():
    gen = torch.Generator().manual_seed(1)
    for shape in ((40, 90), (90, 40)):
        gradient, factors = torch.randn(shape, generator=gen), (3.4445, -4.7750, 2.0315)
        ours = loop.orthogonal(gradient, factors, 5, 1e-7)
        singular = torch.linalg.svdvals(ours)
        assert 0.6 < float(singular.min()) and float(singular.max()) < 1.3
        u, _, vh = torch.linalg.svd(gradient, full_matrices=False)
        assert float((ours * (u @ vh)).sum() / (ours.norm() * (u @ vh).norm())) > 0.97


def test_a_finished_run_says_that_it_is(folder, tmp_path, capsys):
    loop.Run(config.PLANS["tiny"], tmp_path / "run", False, None, [folder]).go()
    assert "is finished" not in capsys.readouterr().err
    loop.Run(config.PLANS["tiny"], tmp_path / "run", True, None, [folder]).go()
    assert "is finished. Write its weights with --export." in capsys.readouterr().err


def test_a_phase_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(command, "_keep_memory", lambda argv: None)  # it would start this process again
    threads = ["--threads", str(torch.get_num_threads()), "--processes", "1"]
    for options, word in ((["--phase", "9"], "no phase 9"), (["--phase", "1", "--resume"], "knows its phase")):
        with pytest.raises(LgdError, match=word):
            command.main(["--plan", "tiny", *threads, *options])


def test_a_plan_on_recordings_asks_for_them(monkeypatch, tmp_path):
    monkeypatch.setattr(command, "_keep_memory", lambda argv: None)
    with pytest.raises(LgdError, match="as a detector saw them"):
        command.main(["--plan", "video_blaze", "--out", str(tmp_path)])
    with pytest.raises(LgdError, match="keypoints have of their own"):
        command.main(["--plan", "video_blaze", "--detected", "any.npz", "--out", str(tmp_path), "--resume"])
    with pytest.raises(LgdError, match="no recordings"):
        command.main(["--mode", "paper", "--detected", "any.npz", "--out", str(tmp_path)])
