"""Everything that can be set of BoxGAN; networks and training take it whole."""

from dataclasses import dataclass
from typing import Literal

from medaug_cli.plugin import setting


@dataclass
class Settings:
    """The hyperparameters of BoxGAN.

    Defaults were chosen on validation patients of the t1c-brain-tumour set at 64 pixels, after minutes of training:
    docs/generators.md has the figures.
    """

    form: Literal["boxes", "soft", "mask"] = setting(
        "boxes", "condition on boxes, soft spots, or masks (ellipses where there are none)",
        choices=("boxes", "soft", "mask"),
    )  # fmt: skip
    classes: bool = setting(True, "condition on the class of an image, if the store names classes")
    latent: int = setting(64, "size of the latent vector", minimum=1)
    base: int = setting(1024, "feature maps at a size s are base / s * 2", minimum=1)
    max_maps: int = setting(128, "maximum number of feature maps per level", minimum=1)
    embedding: int = setting(32, "feature maps in which image and boxes are compared", minimum=1)
    noise: Literal["normal", "uniform"] | bool = setting(
        "normal", "distribution of the latent vector: normal or uniform"
    )
    grain: bool = setting(True, "add noise of learned strength to the features of every level")
    loss: Literal["nonsaturating", "relativistic"] = setting(
        "nonsaturating", "score drawn images alone or against real ones", choices=("nonsaturating", "relativistic")
    )
    batch: int = setting(8, "images per batch", minimum=2)
    lr: float = setting(0.006, "learning rate of Adam, in both networks", minimum=0)
    anneal: float = setting(
        0.5, "last share of the run, over which the learning rate falls to zero", minimum=0, maximum=1
    )
    gamma: float = setting(2.0, "weight of the gradient penalty R1 on real images", minimum=0)
    r1_every: int = setting(8, "steps between gradient penalties", minimum=1)
    mismatch: float = setting(1.0, "weight of telling right boxes of a real image from wrong ones", minimum=0)
    finding: float = setting(1.0, "weight of a loss for boxes that cannot be found in the image", minimum=0)
    contrast_weight: float = setting(
        0.0, "weight of a loss for lesions that stand out more or less than real ones", minimum=0
    )
    crop: float = setting(0.0, "weight of a discriminator of what is in and around the boxes", minimum=0)
    frozen: float = setting(
        0.0, "weight of a second discriminator on features of ImageNet's weights (needs medaug[pretrained])", minimum=0
    )
    frozen_gamma: float = setting(
        0.0, "weight of the gradient penalty R1 of that second discriminator, on features of real images", minimum=0
    )
    target: float = setting(
        0.0, "target confidence on real images for adaptive augmentation; 0: off", minimum=0, maximum=1
    )
    reading: float = setting(
        1.0, "weight of a loss for latent vectors that cannot be read from the image, for variety", minimum=0
    )
    variety: float = setting(5.0, "weight of drawing as varied a batch as the real images are", minimum=0)
    jitter: float = setting(0.05, "largest shift and zoom of the boxes to draw", minimum=0, maximum=0.5)
    augment: float = setting(0.8, "probability of each augmentation", minimum=0, maximum=1)
    flip: bool = setting(True, "mirror left and right")
    flip_rows: bool = setting(False, "mirror every other axis too, where up means nothing, as in lung nodules")
    shift: float = setting(0.1, "largest shift in augmentation, as a share of the side", minimum=0, maximum=0.5)
    zoom: float = setting(0.1, "largest zoom in augmentation, in doublings", minimum=0, maximum=1)
    intensity: float = setting(
        0.03, "largest brightness offset in augmentation, as a share of the range", minimum=0, maximum=1
    )
    contrast: float = setting(0.2, "largest contrast change in augmentation", minimum=0, maximum=1)
    ema_kimg: float = setting(1.0, "half-life of the generator's moving average, in thousand images", minimum=0)
    ema_ramp: float = setting(0.05, "cap of the half-life, as a share of the images seen so far", minimum=0)
    sample_batch: int = setting(16, "images sampled at a time", minimum=1)
