"""Everything that can be set of BoxGAN; networks and training take it whole."""

from dataclasses import dataclass
from typing import Literal

from medaug_cli.plugin import setting


@dataclass
class Settings:
    """The hyperparameters of BoxGAN.

    Defaults were chosen on 477 training slices of the t1c-brain-tumour set at 64 and 128 pixels, in minutes on two
    cores: docs/generators.md has the figures.
    """

    form: Literal["boxes", "soft", "mask"] = setting(
        "boxes", "tell the networks boxes, soft spots, or masks (ellipses where there are none)",
        choices=("boxes", "soft", "mask"),
    )  # fmt: skip
    classes: bool = setting(True, "tell the networks the class of an image, where the store names classes")
    latent: int = setting(64, "numbers in a latent vector", minimum=1)
    base: int = setting(1024, "feature maps at a size s are base / s * 2", minimum=1)
    max_maps: int = setting(128, "most feature maps of a level", minimum=1)
    embedding: int = setting(32, "feature maps in which image and boxes are compared", minimum=1)
    noise: Literal["normal", "uniform"] | bool = setting(
        "normal", "distribution of the latent numbers: normal or uniform"
    )
    grain: bool = setting(True, "add noise of learned strength to the features of every level")
    loss: Literal["nonsaturating", "relativistic"] = setting(
        "nonsaturating", "score drawn images alone or against real ones", choices=("nonsaturating", "relativistic")
    )
    batch: int = setting(8, "images of a batch", minimum=2)
    lr: float = setting(0.006, "Adam's step size, in both networks", minimum=0)
    anneal: float = setting(
        0.5, "share of the run, at its end, over which the step size falls to zero", minimum=0, maximum=1
    )
    gamma: float = setting(2.0, "weight of the gradient penalty R1 on real images", minimum=0)
    r1_every: int = setting(8, "steps between gradient penalties", minimum=1)
    mismatch: float = setting(1.0, "weight of telling right boxes of a real image from wrong ones", minimum=0)
    finding: float = setting(1.0, "weight of the boxes being found in the image: obedience", minimum=0)
    contrast_weight: float = setting(
        0.0, "weight of lesions standing out from what is around them as much as real ones", minimum=0
    )
    crop: float = setting(0.0, "weight of what is in and around the boxes looking real on its own", minimum=0)
    frozen: float = setting(
        0.0, "weight of a second discriminator on features of ImageNet's weights (needs medaug[pretrained])", minimum=0
    )
    target: float = setting(0.0, "sureness of real images that steers the augmentation; 0: none", minimum=0, maximum=1)
    reading: float = setting(1.0, "weight of the latent vector being read out of the image: variety", minimum=0)
    variety: float = setting(5.0, "weight of drawing as varied a batch as the real images are", minimum=0)
    jitter: float = setting(0.05, "most shift and zoom of the boxes that are asked for", minimum=0, maximum=0.5)
    augment: float = setting(0.8, "probability of each augmentation", minimum=0, maximum=1)
    flip: bool = setting(True, "mirror left and right")
    flip_rows: bool = setting(False, "mirror every other axis too, where up means nothing, as in lung nodules")
    shift: float = setting(0.1, "largest augmenting shift, of the side", minimum=0, maximum=0.5)
    zoom: float = setting(0.1, "largest augmenting zoom, in doublings", minimum=0, maximum=1)
    intensity: float = setting(0.03, "largest augmenting brightness offset, of the full range", minimum=0, maximum=1)
    contrast: float = setting(0.2, "largest augmenting change of contrast", minimum=0, maximum=1)
    ema_kimg: float = setting(1.0, "half life of the generator's moving average, thousand images", minimum=0)
    ema_ramp: float = setting(0.05, "the half life is at most this share of the images done", minimum=0)
    sample_batch: int = setting(16, "images sampled at a time", minimum=1)
