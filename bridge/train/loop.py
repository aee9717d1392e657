# SPDX-License-Identifier: GPL-3.0-or-later
"""The training loop.

Seeded (every iteration draws from its own seed, so that a resumed run repeats the run it continues), resumable, with
an averaged copy of the weights that is validated, kept and exported.
"""

import copy
import functools
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from torch import Tensor, distributed, nn
from torch.optim import _muon

from ..body.files import load_body
from ..body.smpl import BodyModel
from ..errors import LgdError
from ..lgd.checkpoint import weights_of
from ..lgd.mirror import symmetrise
from ..lgd.precision import packed
from . import config as configs
from .cuda_graph import AHEAD, Gradients, split
from .data import Mocap, Sampler, generator, load_mocap, shared_mocap
from .mocap_files import HELD_OUT, read_folder
from .tasks import PaperTask, VideoTask

# Of the convolutions' taps against the other parameters' rate: they start at zero and must come to the size of one.
TAP_RATE = 5.0


def learning_rate(phase: configs.Phase, iteration: int) -> float:
    """Warm-up over 2 % (at most 200 iterations), then a cosine to the phase's last rate."""
    warm = max(1, min(200, phase.iterations // 50))
    if iteration < warm:
        return phase.rate * (iteration + 1) / warm
    along = (iteration - warm) / max(1, phase.iterations - warm)
    return phase.last_rate + (phase.rate - phase.last_rate) * 0.5 * (1 + math.cos(math.pi * along))


class Average:
    """Exponential moving average of a network's weights."""

    def __init__(self, net: nn.Module, decay: float = 0.999):
        self.net, self.decay, self.count = copy.deepcopy(net).eval(), decay, 0

    @torch.no_grad()
    def take(self, net: nn.Module) -> None:
        self.count += 1
        decay = min(self.decay, (1 + self.count) / (10 + self.count))
        pairs = list(zip(self.net.state_dict().values(), net.state_dict().values(), strict=True))
        smooth = [pair for pair in pairs if pair[0].is_floating_point()]
        torch._foreach_lerp_([mine for mine, _ in smooth], [theirs for _, theirs in smooth], 1 - decay)
        for mine, theirs in pairs:
            if not mine.is_floating_point():
                mine.copy_(theirs)


@torch.no_grad()
def average_gradients(net: nn.Module) -> None:
    """Every process takes the mean of all processes' gradients."""
    gradients = [p.grad for p in net.parameters() if p.grad is not None]
    flat = torch.cat([g.flatten() for g in gradients])
    distributed.all_reduce(flat)
    flat /= distributed.get_world_size()
    for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))


def orthogonal(gradient: Tensor, factors: tuple[float, float, float], steps: int, eps: float) -> Tensor:
    """The nearest orthogonal matrix, roughly, by torch's Newton-Schulz steps in single precision.

    torch takes them in bfloat16, which CPUs that lack it emulate so slowly that they were half of an iteration.
    """
    tall = gradient.shape[0] > gradient.shape[1]
    x = gradient.T if tall else gradient
    x = x / x.norm().clamp_min(eps)
    a, b, c = factors
    for _ in range(steps):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if tall else x


def git_commit() -> str:
    """The checkout's commit, or "unknown"."""
    try:
        here = Path(__file__).resolve().parent
        return subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def all_mocap(body: BodyModel, folders: list[Path], tell: bool = True) -> Mocap:
    """The shared mocap and what lies in the user's folders; the shared one may be missing where there are folders. tell: name the files
    that are left out.

    Raises LgdError where there is nothing to train on, or nothing that is kept from training to validate with.
    """
    say = lambda text: print(text, file=sys.stderr) if tell else None  # noqa: E731
    parts = [read_folder(folder, body, say) for folder in folders]
    if not parts or shared_mocap().is_file():
        parts.append(load_mocap(body))
    whole = functools.reduce(Mocap.joined, parts)
    if "val" not in whole.split or "train" not in whole.split:
        raise LgdError(
            "bad_input", f"{len(whole.start)} files are too few: every {HELD_OUT}th is kept to validate with.", "Add more."
        )
    return whole


class Run:
    """One training run in a folder: `last.pt` to resume from, `log.jsonl`, `best.pt` with the averaged weights."""

    def __init__(
        self, plan: configs.Plan, folder: Path, resume: bool, init: Path | None, data: list[Path] | None = None,
        phase: int = 0, recordings: list[Path] | None = None, rank: int = 0, processes: int = 1,
    ):  # fmt: skip
        """rank, processes: this one's number among those that train the run together, each on its part of every batch."""
        self.plan, self.folder, self.rank, self.processes = plan, folder, rank, processes
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as fault:
            raise LgdError("disk", f"The folder {folder} cannot be made: {fault.strerror}.", "Name another with --out.") from None
        torch.manual_seed(plan.seed)
        body = BodyModel(load_body(), torch.get_default_device())
        mocap = all_mocap(body, data or [], tell=rank == 0)
        self.task = VideoTask(plan, body, mocap, recordings) if plan.mode == "video" else PaperTask(plan, body, mocap)
        self.sampler = Sampler(mocap.of_split("train"), body)
        self.net = self.task.network(self.sampler)
        self.axes = self.task.axes(self.net)
        self.average = Average(self.net)
        self.phase, self.iteration, self.seconds, self.best = phase, 0, 0.0, math.inf
        self.begun: dict = {}  # the file whose weights it began with
        matrices = {id(p) for p in self.task.matrices(self.net)}
        self.rounded = [axis for axis in self.axes if id(axis[0]) in matrices]  # Muon rounds, and asymmetry would grow
        self.optimisers = self._optimisers()
        if resume and (folder / "last.pt").is_file():
            self._load(folder / "last.pt")
        elif init is not None:
            export = self.begun = read_export(init)
            weights = weights_of(export, plan.family)
            self.task.grow(self.net, weights, export["config"])
            try:
                if plan.family and weights.keys() != self.net.state_dict().keys():
                    raise RuntimeError("a family's weights stand beside those of the same network")
                self.net.load_state_dict({**self.net.state_dict(), **weights})  # what the file lacks begins anew
            except RuntimeError as fault:
                raise LgdError(
                    "bad_input", f"{init.name} holds the weights of another network than the plan {plan.name} trains.",
                    "Leave out --init, or name weights that this version exported for this mode.",
                ) from fault  # fmt: skip
            symmetrise(self.axes)
            self.average = Average(self.net)

    def _optimisers(self) -> list[torch.optim.Optimizer]:
        """AdamW, and Muon for the large matrices. `scale`: of a group's rate."""
        taps, matrices = self.task.taps(self.net), self.task.matrices(self.net)
        taken = {id(p) for p in (*taps, *matrices)}
        groups = [{"params": [p for p in self.net.parameters() if id(p) not in taken], "scale": 1.0}]
        if taps:
            groups.append({"params": taps, "scale": TAP_RATE})
        out = [torch.optim.AdamW(groups, lr=1e-3, weight_decay=1e-4, betas=(0.9, 0.98), fused=True)]
        if matrices:
            if not (matrices[0].is_cuda or torch.ops.mkldnn._is_mkldnn_bf16_supported()):
                _muon._zeropower_via_newtonschulz = orthogonal
            group = [{"params": matrices, "scale": 1.0}]
            out.append(torch.optim.Muon(group, lr=1e-3, weight_decay=1e-4, adjust_lr_fn="match_rms_adamw"))
        return out

    def _load(self, file: Path) -> None:
        try:
            saved = torch.load(file, weights_only=True, map_location="cpu")
            if saved.get("plan", self.plan.name) != self.plan.name:
                raise ValueError("another plan's")
            self.net.load_state_dict(saved["net"])
            self.average.net.load_state_dict(saved["average"])
            for optimiser, state in zip(self.optimisers, saved["optimisers"], strict=True):
                optimiser.load_state_dict(state)
            self.average.count = saved["count"]
            for name in ("phase", "iteration", "seconds", "best", "begun"):
                setattr(self, name, saved[name])
        except Exception as fault:  # noqa: BLE001 (torch raises whatever its readers do)
            raise LgdError(
                "bad_input", f"The run in {self.folder} is damaged, or was begun by another version of this command or with another plan.",
                "Name another folder with --out, and the old run's exported weights with --init.",
            ) from fault  # fmt: skip

    def save(self) -> None:
        """Write `last.pt` whole or not at all."""
        state = {
            "plan": self.plan.name, "net": self.net.state_dict(), "average": self.average.net.state_dict(), "count": self.average.count,
            "optimisers": [o.state_dict() for o in self.optimisers], "phase": self.phase, "iteration": self.iteration,
            "seconds": self.seconds, "best": self.best, "begun": self.begun if self.plan.family else {},
        }  # fmt: skip
        _write(self.folder / "last.pt", state)

    def log(self, **row) -> None:
        with (self.folder / "log.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")

    def go(self) -> None:
        """Train through the remaining phases."""
        if self.phase == len(self.plan.phases) and self.rank == 0:
            print(f"The run in {self.folder} is finished. Write its weights with --export.", file=sys.stderr)
        while self.phase < len(self.plan.phases):
            self._train(self.plan.phases[self.phase])
            if self.rank == 0:
                self.export(self.folder / f"phase{self.phase}.pt", {})
            self.net.load_state_dict(self.average.net.state_dict())  # what a next phase keeps as it is should be the best
            self.phase, self.iteration = self.phase + 1, 0
            self.optimisers = self._optimisers()
            if self.rank == 0:
                self.save()

    def _train(self, phase: configs.Phase) -> None:
        started, shown, saved = time.time() - self.seconds, time.time(), time.time()
        gen, drawn = generator(0), []
        ahead = AHEAD if self.task.body.device.type == "cuda" else 1
        running: dict[str, Tensor] = {}
        part = phase.divided(self.processes)
        gradients = Gradients(self.net, functools.partial(self.task.loss, self.net, part))
        for parameter in self.task.first(self.net):
            parameter.requires_grad_(not phase.updates)
        for parameter in self.task.shared(self.net):
            parameter.requires_grad_(False)
        while self.iteration < phase.iterations:
            rate = learning_rate(phase, self.iteration)
            for group in (g for o in self.optimisers for g in o.param_groups):
                group["lr"] = rate * group["scale"]
            self.net.train()
            at = self.iteration % ahead
            if at == 0 or not drawn:
                first = self.iteration - at
                gen.manual_seed(self.plan.seed * 1_000_003 + self.phase * 10_000_019 + self.rank * 500_009 + first)
                wide = part.times(ahead)
                drawn = split(self.task.draw(self.net, self.sampler, wide, gen, first / phase.iterations), ahead)
            losses = gradients(drawn[at])
            if self.processes > 1:
                average_gradients(self.net)
            symmetrise(self.axes, gradients=True)
            norm = nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
            if torch.isfinite(norm):
                for optimiser in self.optimisers:
                    optimiser.step()
                symmetrise(self.rounded)
                self.average.take(self.net)
            self.iteration += 1
            self.seconds = time.time() - started
            if self.rank:
                continue
            for name, value in losses.items():
                running[name] = running.get(name, value.clone()).lerp_(value, 0.02)
            if time.time() - shown > 30 or self.iteration == phase.iterations:
                shown = time.time()
                frames = self.iteration * phase.seen
                print(
                    f"phase {self.phase} {self.iteration}/{phase.iterations} frames {frames / 1e6:.2f} M "
                    + " ".join(f"{k} {float(v):.3f}" for k, v in running.items()), file=sys.stderr, flush=True,
                )  # fmt: skip
            if time.time() - saved > 240:
                saved = time.time()
                self.save()
            if self.iteration % phase.check_every == 0 or self.iteration == phase.iterations:
                self._check(phase, rate, running)

    def _check(self, phase: configs.Phase, rate: float, running: dict[str, Tensor]) -> None:
        figures = self.task.validate(self.result(), phase)
        row = {
            "phase": self.phase, "iteration": self.iteration, "frames": self.iteration * phase.seen,
            "minutes": round(self.seconds / 60, 1), "rate": rate, "loss": round(float(running["loss"]), 4), **figures,
        }  # fmt: skip
        self.log(**row)
        print(json.dumps(row), file=sys.stderr, flush=True)
        if self.phase == len(self.plan.phases) - 1 and figures["score"] <= self.best:
            self.best = figures["score"]
            self.export(self.folder / "best.pt", figures)

    @torch.no_grad()
    def result(self) -> nn.Module:
        """The averaged network; a family's, as far as the plan goes from what all share to what was trained."""
        if not self.plan.family or self.plan.share == 1:
            return self.average.net
        net, begun = copy.deepcopy(self.average.net), self.begun["weights"]
        for name, value in net.state_dict().items():
            if value.is_floating_point():
                value.copy_(begun[name].to(value).lerp(value, self.plan.share))
        return net

    def export(self, path: Path, figures: dict) -> None:
        """The averaged weights, packed as they ship, with their configuration, figures and commit; a family's in the file that the run
        began with, beside what all share."""
        weights = packed(self.result().state_dict())
        told = {"plan": self.plan.as_dict(), "figures": figures, "commit": git_commit()}
        if self.plan.family:
            own = {name: value for name, value in weights.items() if not torch.equal(value, self.begun["weights"][name])}
            families = {**self.begun.get("families", {}), self.plan.family: {"weights": own, **told}}
            saved = {**self.begun, "families": families}
        else:
            saved = {"mode": self.plan.mode, "config": self.task.network_config(), "weights": weights, "body": self.task.body.id, **told}
        _write(path, saved)


def _write(path: Path, saved: dict) -> None:
    """A file whole or not at all. Raises LgdError where it cannot be written."""
    part = path.with_name(path.name + ".part")
    try:
        torch.save(saved, part)
        os.replace(part, path)
    except (OSError, RuntimeError) as fault:  # a full disk is a RuntimeError of torch's
        raise LgdError("disk", f"{path} cannot be written.", "Is the disk full, or the folder gone?") from fault
    finally:
        part.unlink(missing_ok=True)


def read_export(path: Path) -> dict:
    """What `Run.export` wrote. Raises LgdError where the file is missing or another's."""
    try:
        export = torch.load(path, weights_only=True, map_location="cpu")
        if {"weights", "config", "plan", "mode"} <= export.keys():
            return export
        fault = None
    except Exception as reason:  # noqa: BLE001 (torch raises whatever its readers do)
        fault = reason
    raise LgdError(
        "bad_input", f"{path} is no file of exported weights.", "Name a best.pt, phase*.pt or what --export wrote."
    ) from fault


def go_together(arguments: tuple, processes: int, threads: int) -> None:
    """Train the run that `arguments` of `Run` name in this process and others, which start once it is known to be sound."""
    first = Run(*arguments, processes=processes)
    with tempfile.TemporaryDirectory() as meeting:
        others = torch.multiprocessing.spawn(
            _another, (arguments, processes, threads, meeting), processes - 1, join=False, daemon=True
        )
        try:
            _meet(meeting, 0, processes)
            first.go()
            others.join()
        finally:
            for other in others.processes:  # cancelled or failed here: they would wait for this one, and then complain
                other.kill()
        distributed.destroy_process_group()


def _another(number: int, arguments: tuple, processes: int, threads: int, meeting: str) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process, which a terminal interrupts too, ends this one
    torch.set_num_threads(threads)
    _meet(meeting, number + 1, processes)
    Run(*arguments, rank=number + 1, processes=processes).go()
    distributed.destroy_process_group()


def _meet(folder: str, rank: int, processes: int) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=processes)
