"""The settings that all detectors share."""

from dataclasses import dataclass

from medaug_cli.plugin import ImageSpec, UsageError, setting
from medaug_plugins.detection.backbones import STRIDES
from medaug_plugins.supervised.settings import TrainingSettings


@dataclass
class DetectorSettings(TrainingSettings):
    """How a detector begins, sees images, learns and answers."""

    pretrained: bool | str = setting(False, "start from timm's weights: true (its cache or hub), or a file of them")
    zoom_input: int = setting(1, "enlarge images by this factor first; small lesions like 2", minimum=1, maximum=16)
    nms: float = setting(0.45, "overlap from which the weaker of two detections is dropped", minimum=0, maximum=1)
    test_flips: bool = setting(False, "detect on flips, too (those of training; none without flip), and fuse the boxes")

    @property
    def views(self) -> int:
        """Return how many mirrored forms of an image are looked at."""
        return 1 if not (self.test_flips and self.flip) else 4 if self.flip_rows else 2

    def check_sides(self, spec: ImageSpec, name: str) -> None:
        """Raise UsageError where images, enlarged, are not whole multiples of the coarsest stride."""
        if any(side * self.zoom_input % STRIDES[-1] for side in spec.spatial):
            size = "×".join(map(str, spec.spatial))
            raise UsageError(
                f"{name} needs sides that are multiples of 32, not {size}; --set zoom_input=2 doubles them first"
            )
