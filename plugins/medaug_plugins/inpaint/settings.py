"""Everything that can be set of Inpaint; networks and training take it whole."""

from dataclasses import dataclass
from typing import Literal

from medaug_cli.plugin import setting


@dataclass
class Settings:
    """The hyperparameters of Inpaint."""

    patch: int = setting(
        0, "pixels of a patch's side, a power of two from 16 on; 0: 64, and 32 in volumes", minimum=0, maximum=512
    )
    form: Literal["boxes", "mask"] = setting(
        "boxes", "condition on boxes, or masks (ellipses where there are none)", choices=("boxes", "mask")
    )
    classes: bool = setting(True, "condition on the class of an image, if the store names classes")
    latent: int = setting(32, "size of the latent vector", minimum=1)
    noise: Literal["normal", "uniform"] = setting(
        "normal", "distribution of the latent vector", choices=("normal", "uniform")
    )
    width: int = setting(24, "feature maps of the finest level", minimum=4)
    max_maps: int = setting(96, "maximum number of feature maps per level", minimum=4)
    batch: int = setting(16, "patches per batch", minimum=2)
    lr: float = setting(0.004, "learning rate of Adam, in both networks", minimum=0)
    gamma: float = setting(0.1, "weight of the gradient penalty R1 on real patches", minimum=0)
    r1_every: int = setting(8, "steps between gradient penalties", minimum=1)
    variety: float = setting(
        2.0, "weight of a loss for lesions that stand out more, less or less variously than real ones", minimum=0
    )
    brightness: float = setting(
        0.05, "largest brightness offset in augmentation, as a share of the range", minimum=0, maximum=1
    )
    contrast: float = setting(0.2, "largest contrast change in augmentation", minimum=0, maximum=1)
    ema_kimg: float = setting(1.0, "half-life of the painter's moving average, in thousand patches", minimum=0)
    ema_ramp: float = setting(0.05, "cap of the half-life, as a share of the patches seen so far", minimum=0)
    sample_batch: int = setting(16, "images sampled at a time", minimum=1)
