# SPDX-License-Identifier: GPL-3.0-or-later
"""Training plans: what `bridge train` runs. A plan's phases follow each other; each has its own length and rate."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace

from ..lgd.video import VideoConfig


@dataclass(frozen=True)
class Phase:
    """A stretch of training. batch clips of `frames` frames (halved: half of the time twice as many of half the length) and,
    beside them in every iteration, `singles` single frames; `firsts` more for the first estimate alone, which sees many
    poses for little; `steps` learned steps; from bad starts in `perturbed` of the clips; `breadth`, at its beginning and
    end: how much of the synthetic detector's and the cameras' oddities is drawn (`synthesize.Recipe.part`); touch: train
    nothing but what reads contacts off the finished estimate; doubt: nothing but what reads off it how wrong each joint is,
    limbs lost and invented throughout clips too; updates: train the steps alone, the first estimate and what it is read from
    stay as they are. footage: the paper's networks see 2D as video mode's does (published: exact points through one fixed
    camera). detected: beside all this so many clips as a real detector saw them (`--detected`)."""

    iterations: int
    batch: int
    frames: int
    steps: int
    rate: float
    last_rate: float
    perturbed: float = 0.0
    singles: int = 0
    firsts: int = 0
    halved: bool = False
    check_every: int = 1000
    breadth: tuple[float, float] = (1.0, 1.0)
    touch: bool = False
    doubt: bool = False
    updates: bool = False
    footage: bool = False
    detected: int = 0

    def divided(self, processes: int) -> "Phase":
        """One process's part of every batch."""
        return self._drawing(lambda count: -(-count // processes))

    def times(self, iterations: int) -> "Phase":
        """As many clips and frames as several iterations see."""
        return self._drawing(lambda count: count * iterations)

    def _drawing(self, change: Callable[[int], int]) -> "Phase":
        return replace(self, **{name: change(getattr(self, name)) for name in ("batch", "singles", "firsts", "detected")})

    @property
    def seen(self) -> int:
        """Frames an iteration."""
        return self.batch * self.frames + self.singles + self.firsts


@dataclass(frozen=True)
class Plan:
    """A training run."""

    name: str
    mode: str
    phases: tuple[Phase, ...]
    seed: int = 1
    video: VideoConfig = field(default_factory=VideoConfig)
    width: int = 512
    dropout: float = 0.2  # of the paper's networks; published: 0.2
    family: str | None = None  # train weights for this family of keypoint layouts alone, beside those of all (--init)
    share: float = 1.0  # of the way from those to what was trained, that a family's weights go: rendered people are not people
    blind: bool = False  # without gradients and residuals: the ablation

    def as_dict(self) -> dict:
        return asdict(self)


PAPER = (
    Phase(24000, 256, 1, 0, 2e-3, 1e-5, check_every=2000),
    Phase(14000, 256, 1, 3, 7e-4, 1e-5, check_every=1000, updates=True, footage=True),
)
PLANS = {
    # Single frames first (most poses a second), without learned steps and nearly without oddities, which teach little
    # before the plain case is known; then the steps, still on single frames. Clips for the first estimate alone, which
    # otherwise is forgotten while the steps learn; then for the steps alone; then for both, still with single frames: clips
    # hold too few different poses. Small batches: what is left to learn is worth more steps, not surer ones.
    "video": Plan(
        "video", "video",
        (
            Phase(6000, 256, 1, 0, 1.2e-3, 1e-4, breadth=(0.1, 0.6)),
            Phase(1500, 256, 1, 7, 8e-4, 1.5e-4, 0.2, check_every=500, breadth=(0.5, 1.0)),
            Phase(4000, 12, 96, 0, 6e-4, 2e-5, 0.0, 384, halved=True, check_every=500),
            Phase(2600, 6, 96, 7, 4e-4, 5e-5, 0.5, 128, halved=True, check_every=500, updates=True),
            Phase(2500, 8, 96, 7, 2.5e-4, 5e-6, 0.5, 128, 512, halved=True, check_every=500),
            Phase(400, 16, 48, 7, 3e-3, 1e-4, check_every=400, touch=True),
            Phase(600, 16, 64, 7, 2e-3, 1e-5, singles=64, check_every=600, doubt=True),
        ),
    ),
    # The first estimate by itself, then the steps from it (published: both at once, which costs four times as much an
    # iteration of the first). Ours are the widened poses, the cameras and detectors of the
    # second phase, batches of half the size and no dropout: networks this small are far from learning too much. What its
    # second phase gave (run 41) is more accurate than before, but does not come closer to points that are exact.
    # paper_blind: the steps of what ships (--init) without gradients, to tell what they are worth.
    "paper": Plan("paper", "paper", PAPER, width=512, dropout=0.0),
    "paper_blind": Plan(
        "paper_blind", "paper", (Phase(4000, 256, 1, 3, 5e-4, 1e-6, check_every=500, updates=True, footage=True),),
        width=1024, dropout=0.0, blind=True,
    ),
    # What ships, further on a CPU (--init): 75 minutes of two cores.
    "video_further": Plan(
        "video_further", "video",
        (
            Phase(3200, 8, 96, 7, 2.5e-4, 2e-6, 0.5, 128, 512, halved=True, check_every=500),
            Phase(300, 16, 48, 7, 2e-3, 1e-4, check_every=300, touch=True),
            Phase(400, 16, 64, 7, 1.5e-3, 1e-5, singles=64, check_every=400, doubt=True),
        ),
        seed=56,
    ),
    # For a GPU (`--device cuda`). The paper's at its published width, all four networks on footage's 2D: what ships. Video's
    # from what ships (--init), with further blocks: tried for a few iterations only.
    "paper_large": Plan(
        "paper_large", "paper",
        (
            Phase(3000, 2048, 1, 0, 2e-3, 2e-4, check_every=3000, footage=True),
            Phase(8500, 2048, 1, 3, 1.5e-3, 2e-6, check_every=850, footage=True),
        ),
        width=1024, dropout=0.0,
    ),
    "video_large": Plan(
        "video_large", "video",
        (
            Phase(2000, 32, 96, 7, 4e-4, 2e-6, 0.5, 512, 2048, halved=True, check_every=250),
            Phase(400, 32, 48, 7, 3e-3, 1e-4, check_every=400, touch=True),
            Phase(600, 32, 64, 7, 2e-3, 1e-5, singles=128, check_every=600, doubt=True),
        ),
        video=VideoConfig(encoder=(1, 2, 4, 8, 16, 1, 4, 16), update=(1, 4, 16)),
    ),
    # Weights for BlazePose's keypoints alone, from what ships (--init), on clips of rendered people as BlazePose saw them
    # (--detected, from `bridge record`) and as many made up: with them all others' weights stay as they are.
    "video_blaze": Plan(
        "video_blaze", "video",
        (Phase(1500, 4, 96, 7, 2.5e-4, 2e-6, 0.5, 64, 192, halved=True, check_every=250, detected=8),), family="blaze", share=0.5,
    ),
    "tiny": Plan(
        "tiny", "video",
        (
            Phase(3, 4, 1, 0, 1e-3, 1e-3, check_every=3, breadth=(0.1, 1.0)), Phase(3, 2, 12, 2, 1e-3, 1e-3, 0.5, 4, 4, True, 3),
            Phase(2, 2, 12, 2, 1e-3, 1e-3, check_every=2, touch=True), Phase(2, 2, 12, 2, 1e-3, 1e-3, singles=2, check_every=2, doubt=True),
        ),
    ),
}  # fmt: skip
