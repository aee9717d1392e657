# SPDX-License-Identifier: GPL-3.0-or-later
"""How hard the synthetic cameras and detector are, for training and for evaluation."""

from dataclasses import dataclass, field, replace

LAYOUT_SHARE = {"coco17": 0.2, "halpe26": 0.12, "body25": 0.12, "body25b": 0.2, "blazepose33": 0.36}


@dataclass(frozen=True)
class Recipe:
    """Cameras and detector. Training draws all of it; evaluation fixes it."""

    noise: tuple[float, float] = (0.3, 1.5)  # gain of WHAM's tables, uniform
    own_noise: float = 2.0  # every point's noise in a clip is up to so many times more or less than the tables say
    drift: float = 1.0
    missing: tuple[float, float] = (0.0, 0.25)  # chance of each point a frame, uniform a clip
    down_the_tree: float = 0.03
    limb_spans: float = 0.5
    crop_lower: float = 0.1
    seated: float = 0.1  # share of clips, of upright people, who sit or kneel
    rising: float = 0.3  # of those: sit down or rise in the clip
    arms: float = 0.16  # share of clips whose arms, one or both, are made up
    waist: float = 0.2  # share of clips, of upright people, who stand and are seen to the waist: nobody knows their legs
    nobody: float = 0.08
    limb_swap: float = 0.1
    body_swap: float = 0.1
    drop_sets: float = 0.2
    person_offset: float = 0.012
    moving_camera: float = 0.2
    any_root: float = 0.15
    facing: float = 0.3  # share of clips in which the person faces the camera, as those who film themselves do
    level: float = 0.5  # share of cameras held nearly level
    frame_person: float = 0.35  # share of cameras placed so that the person fills part of the image, with cropping
    usual_lens: float = 0.65  # share of lenses as phones and camcorders have them:
    usual: tuple[float, float] = (0.9, 0.28)  # their median focal length, in longer sides of the picture, and its logarithm's deviation
    lenses: tuple[float, float] = (0.45, 2.5)  # what the others' are drawn from
    focal_exact: float = 0.6
    focal_unknown: float = 0.15
    layouts: dict[str, float] = field(default_factory=lambda: dict(LAYOUT_SHARE))
    clean_share: float = 0.1
    limbs_gone: float = 0.0  # of the limbs: never seen in the clip
    limbs_invented: float = 0.0  # and put elsewhere, for a while or throughout, as detectors do with what they cannot see

    def part(self, breadth: float) -> "Recipe":
        """The recipe with `breadth` (0 to 1) of its oddities: what does not befall every clip befalls fewer."""
        names = (
            "down_the_tree", "limb_spans", "crop_lower", "seated", "arms", "waist", "nobody", "limb_swap", "body_swap", "drop_sets",
            "person_offset", "moving_camera", "any_root", "facing", "level", "frame_person", "focal_unknown",
        )  # fmt: skip
        exact = 1 - (1 - self.focal_exact) * breadth
        return replace(self, focal_exact=exact, **{name: getattr(self, name) * breadth for name in names})


TRAIN = Recipe()
_FIXED = Recipe(
    noise=(0, 0), own_noise=1, drift=0, missing=(0, 0), down_the_tree=0, limb_spans=0, crop_lower=0, seated=0, rising=0, arms=0, waist=0,
    nobody=0, limb_swap=0, body_swap=0, drop_sets=0, person_offset=0, moving_camera=0, any_root=0, facing=0, level=0, frame_person=0,
    usual_lens=0, lenses=(0.6, 2.5), focal_exact=1, focal_unknown=0, clean_share=0,
)  # fmt: skip


def fixed_recipe(**changes) -> Recipe:
    """A recipe without any disturbance but the given ones: for evaluation."""
    return Recipe(**{**_FIXED.__dict__, **changes})
