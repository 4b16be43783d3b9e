"""A generator plugin for medaug in about thirty lines: smooth backgrounds like the data's, a blob in each box."""

from dataclasses import dataclass

import numpy as np
import torch

from medaug_cli.plugin import BadInput, GeneratorCapabilities, setting


@dataclass
class Blobs:
    """Draw the mean training image, smooth waves of the data's spread, and a bright blob in each box."""

    brightness: float = setting(0.3, help="How much brighter a blob is", minimum=0.0, maximum=1.0)
    waves: int = setting(5, help="Plane waves that make up a background", minimum=1)
    capabilities = GeneratorCapabilities(dims=(2,), channels=(1, 2, 3, 4), default_budget=1.0)

    def fit(self, data, run):
        done = run.state["done"] if run.state else 0
        moments = run.state["moments"] if run.state else torch.zeros(2, data.spec.channels, *data.spec.spatial)
        while run.fraction(done) < 1:
            chosen = np.random.default_rng([run.seed, done]).integers(len(data), size=8)
            images, done = torch.from_numpy(data.read(chosen)), done + 8
            moments = moments + (torch.stack([images, images**2]).mean(1) - moments) * 8 / done  # running means
            self.mean, self.std = moments[0].numpy(), (moments[1] - moments[0] ** 2).clamp(0).sqrt().numpy()
            run.log(done, mean=self.mean.mean(), std=self.std.mean())
            run.checkpoint(done, lambda: {"done": done, "moments": moments})  # noqa: B023

    def state_dict(self):
        return {"mean": self.mean, "std": self.std}

    def load_state_dict(self, state, spec, device="cpu"):
        self.mean, self.std = np.asarray(state["mean"]), np.asarray(state["std"])
        if self.mean.shape != (spec.channels, *spec.spatial):
            raise BadInput(f"these blobs were fitted on images of shape {self.mean.shape}")

    def sample(self, conditions, seeds):
        for condition, seed in zip(conditions, seeds, strict=True):
            y, x = np.indices(condition.spatial) + 0.5
            waves = np.random.default_rng(seed).normal(size=(self.waves, 3)) * (0.2, 0.2, 9)
            image = self.mean + self.std * np.mean([np.sin(a * x + b * y + c) for a, b, c in waves], 0)
            for left, top, right, bottom in condition.boxes:
                across, down = (2 * x - left - right) / (right - left), (2 * y - top - bottom) / (bottom - top)
                image = image + self.brightness * np.exp(-2 * (across**2 + down**2))
            yield np.clip(image, 0, 1).astype(np.float32)
