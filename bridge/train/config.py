# SPDX-License-Identifier: GPL-3.0-or-later
"""Training plans: what `bridge train` runs. A plan's phases follow each other; each has its own length and rate."""

from dataclasses import asdict, dataclass, field

from ..lgd.video import VideoConfig


@dataclass(frozen=True)
class Phase:
    """A stretch of training. batch clips of `frames` frames, `steps` learned steps; from bad starts in `perturbed` of
    the clips."""

    iterations: int
    batch: int
    frames: int
    steps: int
    rate: float
    last_rate: float
    perturbed: float = 0.0
    check_every: int = 1000


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
    # Single frames first (most poses a second), then clips, both without learned steps; then the steps on clips.
    "video": Plan(
        "video", "video",
        (
            Phase(950, 2048, 1, 0, 1.2e-3, 1e-4, check_every=200),
            Phase(500, 40, 48, 0, 6e-4, 1e-4, check_every=125),
            Phase(900, 24, 32, 3, 5e-4, 1e-5, perturbed=0.25, check_every=150),
        ),
        optimiser="muon",
    ),
    # The published schedule trains all steps from the first iteration; widened poses are our one addition to its data.
    "paper": Plan("paper", "paper", (Phase(3200, 512, 1, 3, 1e-3, 2e-5, check_every=400),), width=256),
    "tiny": Plan("tiny", "video", (Phase(3, 4, 1, 0, 1e-3, 1e-3, check_every=3), Phase(3, 2, 12, 2, 1e-3, 1e-3, 0.5, 3))),
}  # fmt: skip
