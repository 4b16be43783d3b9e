"""Detection: boxes in an image (Han et al., 2.6)."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from medaug_cli.errors import BadInput
from medaug_cli.metrics.detection import DETECTION
from medaug_cli.metrics.measures import Measure
from medaug_cli.plugin import Detections
from medaug_cli.store import Store


class Detection:
    """Find lesions by boxes."""

    name: ClassVar[str] = "detection"
    kind: ClassVar[str] = "detector"
    headline: ClassVar[str] = "sensitivity_at_1"
    main: ClassVar[tuple[str, ...]] = ("sensitivity_at_1", "mAP")
    measures: ClassVar[Mapping[str, Measure]] = {one.name: one for one in DETECTION}

    def usable(self, store: Store) -> np.ndarray:
        """Return which images (n,) bool were annotated: one without a box is a normal slice then."""
        return store.annotated

    def wanting(self, store: Store) -> str:
        """Say what a store lacks that has no usable image."""
        return f"{store.path} has no annotated image"

    def check(self, real: Store, synthetic: Sequence[Store]) -> None:
        """Raise BadInput where synthetic images hold no box, or boxes of other labels."""
        for store in synthetic:
            if not any(map(len, store.boxes)):
                raise BadInput(f"{store.path} holds no box: its generator was not told where a lesion should be")
            if store.spec.label_names != real.spec.label_names:
                raise BadInput(
                    f"{store.path} has the labels {', '.join(store.spec.label_names)}, {real.path} has "
                    f"{', '.join(real.spec.label_names)}"
                )

    def measurable(self, store: Store, indices: np.ndarray) -> str | None:
        """Say why nothing can be measured on some images; None where it can."""
        return None if any(len(store.boxes[i]) for i in indices) else "no box"

    def score(self, store: Store, indices: np.ndarray, answers: Sequence[Detections]) -> dict[str, float]:
        """Return the mean sensitivity at one false positive a slice; see metrics.validation_score."""
        from medaug_cli.metrics import validation_score

        return validation_score([store.boxes[i] for i in indices], [store.labels[i] for i in indices], answers)
