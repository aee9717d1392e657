# SPDX-License-Identifier: GPL-3.0-or-later
"""Training plans: what `bridge train` runs. A plan's phases follow each other; each has its own length and rate."""

from dataclasses import asdict, dataclass, field

from ..lgd.video import VideoConfig


@dataclass(frozen=True)
class Phase:
    """A stretch of training. batch clips of `frames` frames and, beside them in every iteration, `singles` single frames;
    `steps` learned steps; from bad starts in `perturbed` of the clips."""

    iterations: int
    batch: int
    frames: int
    steps: int
    rate: float
    last_rate: float
    perturbed: float = 0.0
    singles: int = 0
    check_every: int = 1000

    @property
    def seen(self) -> int:
        """Frames an iteration."""
        return self.batch * self.frames + self.singles


@dataclass(frozen=True)
class Plan:
    """A training run."""

    name: str
    mode: str
    phases: tuple[Phase, ...]
    seed: int = 1
    video: VideoConfig = field(default_factory=VideoConfig)
    width: int = 512
    optimiser: str = "adam"  # or muon, for the hidden layers of the video network

    def as_dict(self) -> dict:
        return asdict(self)


PLANS = {
    # Single frames first, without learned steps (most poses a second); then the steps, on clips and still on single frames:
    # clips alone hold too few different poses, and cost what was learned from them.
    "video": Plan(
        "video", "video",
        (
            Phase(950, 2048, 1, 0, 1.2e-3, 1e-4, check_every=200),
            Phase(800, 16, 24, 3, 4e-4, 1e-5, perturbed=0.25, singles=384, check_every=125),
        ),
        optimiser="muon",
    ),
    # The published schedule trains all steps from the first iteration; widened poses are our one addition to its data.
    "paper": Plan("paper", "paper", (Phase(3200, 512, 1, 3, 1e-3, 2e-5, check_every=400),), width=256),
    "tiny": Plan("tiny", "video", (Phase(3, 4, 1, 0, 1e-3, 1e-3, check_every=3), Phase(3, 2, 12, 2, 1e-3, 1e-3, 0.5, 4, 3))),
}  # fmt: skip
