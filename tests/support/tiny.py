"""The smallest plugins that keep the contract, and a stranger's task: fast enough to run hundreds of times."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from medaug_cli.metrics.measures import Measure
from medaug_cli.plugin import GeneratorCapabilities, NetworkCapabilities, box_map, setting
from medaug_cli.tasks.task import Task, patient_numbers


@dataclass
class TinyGenerator:
    """Mean training image, noise, and a lighter box; it takes `pause` seconds a step to be killed in."""

    pause: float = setting(0.0, help="Seconds a step", minimum=0.0)
    amount: float = setting(0.3, help="Brightness of the box", minimum=0.0, maximum=1.0)
    capabilities: ClassVar[GeneratorCapabilities] = GeneratorCapabilities(
        dims=(2, 3), channels=(1, 2, 3), default_budget=0.05
    )

    def fit(self, data, run):
        import time

        self.spec = data.spec
        total, done = np.zeros((data.spec.channels, *data.spec.spatial), np.float64), 0
        if run.state is not None:
            total, done = run.state["total"].numpy(), int(run.state["done"])
            self.mean = total / max(done, 1)
        while run.fraction(done) < 1:
            rng = np.random.default_rng([run.seed, done])
            total = total + data.read(rng.integers(len(data), size=4)).sum(0)
            done += 4
            self.mean = total / done
            time.sleep(self.pause)
            run.log(done, mean=float(self.mean.mean()))
            run.checkpoint(done, lambda total=total, done=done: self._state(total, done))

    def _state(self, total, done):
        import torch

        return {"total": torch.from_numpy(total.copy()), "done": done}

    def state_dict(self):
        return {"mean": self.mean.astype(np.float32)}

    def load_state_dict(self, state, spec, device="cpu"):
        self.mean, self.spec = np.asarray(state["mean"]), spec

    def sample(self, conditions, seeds):
        for condition, seed in zip(conditions, seeds, strict=True):
            noise = np.random.default_rng(seed).normal(0, 0.05, self.mean.shape)
            light = self.amount * box_map(condition.boxes, condition.spatial)
            yield np.clip(self.mean + noise + light, 0, 1).astype(np.float32)


@dataclass
class TinyDetector:
    """Finds the box that is lighter than the mean; learns nothing but a threshold."""

    batch: int = setting(4, help="Images a step")
    pause: float = setting(0.0, help="Seconds a step")
    capabilities: ClassVar[NetworkCapabilities] = NetworkCapabilities(
        dims=(2,), channels=(1, 2, 3), default_budget=5, continues=True, variants={"quick": {"pause": 0.001}}
    )

    def fit(self, data, run):
        import time

        done, total = 0, 0.0
        if run.state is not None:
            done, total = int(run.state["done"]), float(run.state["total"])
        self.spec = data.spec
        while run.fraction(done) < 1:
            rng = np.random.default_rng([run.seed, done])
            total += float(data.read(rng.choice(len(data), self.batch, p=data.weights)).mean())
            done += 1
            time.sleep(self.pause)
            run.log(done, level=total / done)
            run.checkpoint(done, lambda total=total, done=done: {"done": done, "total": total})
        self.level = total / max(done, 1)
        run.validate(self.predict)

    def state_dict(self):
        return {"level": np.array(self.level, np.float64)}

    def load_state_dict(self, state, spec, device="cpu"):
        self.level, self.spec = float(state["level"]), spec

    def predict(self, images):
        for image in images:
            rows, columns = np.nonzero(image.mean(0) > self.level + 0.2)
            if not len(rows):
                yield np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64)
                continue
            box = [[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]]
            yield np.array(box, np.float32), np.array([0.9], np.float32), np.zeros(1, np.int64)


@dataclass
class _Level:
    """Learns the mean brightness of its training images, and nothing else."""

    batch: int = setting(4, help="Images a step")
    over: float = setting(0.2, help="How much lighter than the mean a lesion is")
    augment: str = setting("both", help="It changes no image")
    capabilities: ClassVar[NetworkCapabilities] = NetworkCapabilities(
        dims=(2, 3), channels=(1, 2, 3), default_budget=5, continues=True, variants={"strict": {"over": 0.3}}
    )

    def fit(self, data, run):
        done, total = 0, 0.0
        self.spec = data.spec
        while run.fraction(done) < 1:
            rng = np.random.default_rng([run.seed, done])
            total += float(data.read(rng.choice(len(data), self.batch, p=data.weights)).mean())
            done += 1
            run.log(done, level=total / done)
        self.level = total / max(done, 1)
        run.validate(self.predict)

    def state_dict(self):
        return {"level": np.array(self.level, np.float64)}

    def load_state_dict(self, state, spec, device="cpu"):
        self.level, self.spec = float(state["level"]), spec


@dataclass
class TinyClassifier(_Level):
    """Says "bright", the first class, of an image with pixels that are lighter than the mean by far."""

    def predict(self, images):
        for image in images:
            light = 1 / (1 + np.exp(-20 * (float(np.quantile(image, 0.97)) - self.level - self.over)))
            others = len(self.spec.class_names) - 1
            yield np.array([light, *[(1 - light) / others] * others])


@dataclass
class TinySegmenter(_Level):
    """Marks the pixels that are lighter than the mean."""

    def predict(self, images):
        for image in images:
            yield (image.mean(0) > self.level + self.over).astype(np.uint8)


@dataclass
class TinyCounter(_Level):
    """Says how many pixels are lighter than the mean."""

    def predict(self, images):
        for image in images:
            yield np.float64((image.mean(0) > self.level + self.over).sum())


@dataclass(frozen=True)
class CountAnswers:
    """How far off each count is."""

    errors: np.ndarray
    patients: np.ndarray

    def measure(self, weights):
        each = weights[:, self.patients]
        return {"error": each @ self.errors / np.maximum(each.sum(1), 1e-9)}

    def joined(self, other, patients):
        errors = np.concatenate([self.errors, other.errors])
        return CountAnswers(errors, np.concatenate([self.patients, other.patients + patients]))


class Counting(Task):
    """A stranger's task: how many pixels the lesions of an image have."""

    name = "counting"
    kind = "counter"
    headline = "error"
    main = ("error",)
    measures = {"error": Measure("error", "error of the count", 1, larger_is_better=False, compared=True)}

    def usable(self, store):
        return store.annotated

    def wanting(self, store):
        return f"{store.path} has no annotated image"

    def check(self, real, synthetic):
        pass

    def measurable(self, store, indices):
        return None if len(indices) else "no image"

    def answers(self, store, indices, found):
        sizes = [np.prod(store.boxes[i][:, 2:] - store.boxes[i][:, :2], 1).sum() for i in indices]
        errors = np.abs(np.array(sizes) - np.array(found, float).reshape(-1))
        return CountAnswers(errors, patient_numbers(store, indices))

    def score(self, store, indices, answers):
        return {"score": -float(self.answers(store, indices, answers).errors.mean())}
