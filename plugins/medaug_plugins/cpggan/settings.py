"""Everything that can be set of CPGGAN; training takes it whole."""

from dataclasses import dataclass
from typing import Any, Literal

from medaug_cli.plugin import setting

PAPER_BATCHES = "4:128,8:128,16:128,32:64,64:32,128:16,256:8,512:4"
PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    "paper": {"schedule": "paper"},
    "companion": {"schedule": "paper", "batches": "4:4", "lr": 2e-4, "label_flips": 1 / 3},
    "small": {
        "latent": 128, "base": 512, "max_maps": 128, "batches": "4:4", "gp_every": 4,
        "lr": 0.003, "anneal": 0.5, "growing": 0.1, "variety": 15.0,
    },
}  # fmt: skip


@dataclass
class Settings:
    """The hyperparameters of CPGGAN; defaults are those of Karras et al. 2018, A.1, where they say one."""

    preset: Literal["default", "paper", "companion", "small"] = setting(
        "default",
        "what settings default to: the paper's networks and losses over whatever run is asked for "
        "(default), its schedule in absolute kimg too (paper), its companion's batches of 4, steps and flipped labels "
        "(companion), or what a CPU can train (small)",
        choices=tuple(PRESETS),
    )
    latent: int = setting(512, "size of the latent vector", minimum=1)
    base: int = setting(8192, "feature maps at a size s are base / s * 2", minimum=1)
    max_maps: int = setting(512, "maximum number of feature maps per level", minimum=1)
    batches: str = setting(PAPER_BATCHES, "images per batch from each resolution on; '4:16' is 16 everywhere")
    schedule: Literal["scaled", "paper"] = setting(
        "scaled", "grow over a share of the run (scaled) or by absolute kimg (paper)", choices=("scaled", "paper")
    )
    growing: float = setting(0.6, "share of the run until full size is reached (scaled)", minimum=0.01, maximum=1)
    fade_kimg: float = setting(600.0, "thousand images of a fade; only its ratio counts if scaled", minimum=1e-6)
    stable_kimg: float = setting(600.0, "thousand images between fades; only its ratio counts if scaled", minimum=0)
    noise: Literal["normal", "uniform"] = setting(
        "normal", "distribution of the latent vector", choices=("normal", "uniform")
    )
    condition: Literal["boxes", "soft-boxes", "mask", "class", "label", "none"] = setting(
        "boxes",
        "condition: boxes, boxes with soft edges, or the lesion's mask (an ellipse where boxes alone are asked for)",
        choices=("boxes", "soft-boxes", "mask"),
    )
    lr: float = setting(0.001, "learning rate of Adam, in both networks", minimum=0)
    anneal: float = setting(
        0.0, "last share of the run, over which the learning rate falls to zero", minimum=0, maximum=1
    )
    n_critic: int = setting(1, "discriminator steps per generator step", minimum=1)
    gp_weight: float = setting(10.0, "weight of the gradient penalty", minimum=0)
    gp_every: int = setting(1, "steps between gradient penalties; more than 1 saves time", minimum=1)
    drift: float = setting(0.001, "weight of the squared scores of real images", minimum=0)
    variety: float = setting(
        0.0, "weight of drawing as varied a batch as the real images are; 0: as in the paper", minimum=0
    )
    reading: float = setting(
        0.0, "weight of a loss for latent vectors that cannot be read from the image; 0: as in the paper", minimum=0
    )
    label_flips: float = setting(0.0, "share of steps with real and fake swapped", minimum=0, maximum=1)
    pooling: bool = setting(False, "judge by a spatial pyramid of the last features (He et al. 2014)")
    flip: bool = setting(True, "mirror left and right, image and map together")
    flip_rows: bool = setting(False, "mirror every other axis too, where up means nothing")
    augment: float = setting(0.0, "probability of each augmentation of image and map", minimum=0, maximum=1)
    target: float = setting(
        0.0, "target confidence on real images for adaptive augmentation; 0: off", minimum=0, maximum=1
    )
    shift: float = setting(0.1, "largest shift in augmentation, as a share of the side", minimum=0, maximum=0.5)
    zoom: float = setting(0.1, "largest zoom in augmentation, in doublings", minimum=0, maximum=1)
    intensity: float = setting(
        0.03, "largest brightness offset in augmentation, as a share of the range", minimum=0, maximum=1
    )
    contrast: float = setting(0.2, "largest contrast change in augmentation", minimum=0, maximum=1)
    ema: float = setting(0.999, "decay per step of the generator's moving average", minimum=0, maximum=1)
    ema_ramp: float = setting(
        0.05, "cap of its half-life, as a share of the images seen at this level; 0: none", minimum=0
    )
    sample_batch: int = setting(16, "images sampled at a time", minimum=1)
