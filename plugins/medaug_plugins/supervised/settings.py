"""The settings that all networks share which learn from annotated images; training and augmentation take them whole."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from medaug_cli.plugin import setting

NO_AUGMENTATION: dict[str, Any] = {  # the arm "plain" of a study
    "flip": False,
    "flip_rows": False,
    "shift": 0.0,
    "zoom": 0.0,
    "rotate": 0.0,
    "contrast": 0.0,
    "brightness": 0.0,
}


@dataclass
class TrainingSettings:
    """The numbers of a training step, and how far classical augmentation changes images."""

    batch: int = setting(16, "images per step", minimum=1)
    lr: float = setting(0.001, "learning rate of AdamW after the warm-up", minimum=0)
    weight_decay: float = setting(0.01, "AdamW's weight decay", minimum=0)
    warm_up: float = setting(100.0, "steps until the full learning rate", minimum=0)
    ema: float = setting(0.998, "decay per step of the moving average of the weights", minimum=0, maximum=1)
    validations: int = setting(10, "how often the validation split chooses the best weights", minimum=1)
    patience: int = setting(0, "stop after this many validations without improvement; 0: never", minimum=0)
    flip: bool = setting(True, "augment by left-right flips")
    flip_rows: bool = setting(False, "augment by top-bottom flips, where up means nothing")
    shift: float = setting(0.1, "augment by shifts of up to this share of a side", minimum=0, maximum=0.5)
    zoom: float = setting(0.2, "augment by zooms of up to this share", minimum=0, maximum=2)
    rotate: float = setting(0.0, "augment by rotations of up to this many degrees", minimum=0, maximum=180)
    contrast: float = setting(0.2, "augment contrast by up to this share", minimum=0, maximum=0.9)
    brightness: float = setting(0.1, "augment brightness by up to this much of the range", minimum=0, maximum=0.9)

    def loss_weights(self) -> Mapping[str, float]:
        """Return the weights of parts of the loss, 1 where none is named."""
        return {}
