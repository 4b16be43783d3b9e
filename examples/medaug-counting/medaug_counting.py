"""A task of a stranger's package for medaug, and a network of it: how many lesions does an image show?

The task says what an image's truth is, what is measured, and what a report shows. All the rest is medaug's own:
training, resuming, evaluation with intervals over patients, comparison, the study.
"""

import io
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from medaug_cli.plugin import BadInput, NetworkCapabilities, setting
from medaug_cli.tasks import Figure, Measure, Task, patient_numbers


@dataclass(frozen=True)
class Counts:
    """True and found numbers of lesions (n,), and which patient each image is of, from 0."""

    true: np.ndarray
    found: np.ndarray
    patients: np.ndarray

    def measure(self, weights):
        """Return each measure (r,) where patients count `weights` (r, u) times."""
        images = weights[:, self.patients]
        off = self.found - self.true
        total = np.maximum(images.sum(1), 1e-9)
        return {
            "error": images @ abs(off) / total,
            "exact": images @ (np.rint(off) == 0) / total,
            "bias": images @ off / total,
        }

    def joined(self, other, patients):
        """Return the answers of both; the other's patients are counted on from `patients`."""
        pairs = ((self.true, other.true), (self.found, other.found), (self.patients, other.patients + patients))
        return Counts(*(np.concatenate(pair) for pair in pairs))


class Counting(Task):
    """Say how many lesions an image shows."""

    name = "counting"
    kind = "counter"  # its networks are registered in the group medaug.counters
    needs = "boxes"  # what a synthetic image must bring along to be learnt from
    headline = "error"
    main = ("error", "exact")
    measures: ClassVar = {
        one.name: one
        for one in (
            Measure("error", "mean error of the count", larger_is_better=False, bounds=(0, np.inf), compared=True),
            Measure("exact", "share of images with the right count", compared=True),
            Measure("bias", "mean count too many", bounds=(-np.inf, np.inf)),
        )
    }

    def usable(self, store):
        return store.annotated

    def wanting(self, store):
        return f"{store.path} has no annotated image"

    def check(self, real, synthetic):
        for store in synthetic:
            if not any(map(len, store.boxes)):
                raise BadInput(f"{store.path} holds no box: its lesions cannot be counted")

    def measurable(self, store, indices):
        return None if len(indices) else "no image"

    def answers(self, store, indices, found):
        true = np.array([len(store.boxes[i]) for i in indices], float)
        return Counts(true, np.array(found, float).reshape(-1), patient_numbers(store, indices))

    def score(self, store, indices, answers):
        error = float(self.answers(store, indices, answers).measure(np.ones((1, len(indices))))["error"][0])
        return {"score": -error, "error": error}

    def counts(self, store, indices):
        return {"lesions": sum(len(store.boxes[i]) for i in indices)}

    def figures(self, store, indices, answers, found, most):
        from matplotlib.figure import Figure as Drawing

        drawing = Drawing(figsize=(4, 4), layout="constrained")
        axes = drawing.subplots()
        for name, each in answers.items():
            axes.plot(each.true, each.found, "o", alpha=0.4, label=name)
        axes.set(xlabel="lesions", ylabel="found")
        axes.legend()
        target = io.BytesIO()
        drawing.savefig(target, format="svg")
        return [Figure("Counts", "A dot an image.", target.getvalue())]


@dataclass
class Ridge:
    """Count by ridge regression on how much of an image is brighter than each of some levels."""

    levels: int = setting(8, help="Levels of brightness", minimum=1)
    batch: int = setting(16, help="Images of a step", minimum=1)
    ridge: float = setting(1e-3, help="Weight that keeps coefficients small", minimum=0.0)
    capabilities: ClassVar[NetworkCapabilities] = NetworkCapabilities(
        dims=(2, 3), channels=(1, 2, 3, 4), default_budget=100
    )

    def seen(self, images):
        """Return what the regression sees of images (b, c, *s): (b, 1 + levels)."""
        flat = np.asarray(images, np.float64).reshape(len(images), -1)
        shares = [(flat > level).mean(1) for level in np.linspace(0, 1, self.levels, endpoint=False)]
        return np.stack([np.ones(len(flat)), *shares], 1)

    def fit(self, data, run):
        k = 1 + self.levels
        done = int(run.state["done"]) if run.state else 0
        sums = run.state["sums"].numpy() if run.state else np.zeros((k, k + 1))
        while run.fraction(done) < 1:
            chosen = np.random.default_rng([run.seed, done]).choice(len(data), self.batch, p=data.weights)
            x, y = self.seen(data.read(chosen)), np.array([len(data.boxes[i]) for i in chosen], float)
            sums, done = sums + x.T @ np.column_stack([x, y]) / self.batch, done + 1
            self.weights = np.linalg.solve(sums[:, :k] / done + self.ridge * np.eye(k), sums[:, k] / done)
            run.log(done, error=float(np.abs(x @ self.weights - y).mean()))
            run.checkpoint(done, lambda: {"done": done, "sums": torch.from_numpy(sums)})  # noqa: B023
        run.validate(self.predict)

    def state_dict(self):
        return {"weights": self.weights}

    def load_state_dict(self, state, spec, device="cpu"):
        self.weights = np.asarray(state["weights"])
        if self.weights.shape != (1 + self.levels,):
            raise BadInput(f"these weights are of {len(self.weights) - 1} levels of brightness, not {self.levels}")

    def predict(self, images):
        for image in images:
            yield np.float64(max(0.0, float(self.seen(image[None])[0] @ self.weights)))
