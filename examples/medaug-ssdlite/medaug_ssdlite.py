"""Somebody else's detector as a plugin for medaug: torchvision's SSDlite (Sandler et al. 2018) with its own rules.

It takes three channels, enlarges every image to 320 pixels, counts labels from 1, and normalises by itself; the plugin
says so to nobody and hands on what medaug expects.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torchvision.models.detection import ssdlite320_mobilenet_v3_large

from medaug_cli.plugin import BadInput, NetworkCapabilities, image_seed, setting


@dataclass
class SSDLite:
    """Train torchvision's SSDlite from random weights with plain SGD."""

    batch: int = setting(8, help="Images of a step", minimum=2)
    lr: float = setting(0.01, help="Step size", minimum=0.0)
    capabilities: ClassVar[NetworkCapabilities] = NetworkCapabilities(dims=(2,), channels=(1, 3), default_budget=2000)

    def build(self, spec):
        return ssdlite320_mobilenet_v3_large(
            weights=None, weights_backbone=None, num_classes=len(spec.label_names) + 1, score_thresh=0.001
        )

    def fit(self, data, run):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(image_seed(run.seed, 0))
            network = self.build(data.spec).to(run.device)
        optimiser = torch.optim.SGD(network.parameters(), self.lr, momentum=0.9)
        done = 0
        if run.state:
            done = int(run.state["done"])
            network.load_state_dict(run.state["network"])
            optimiser.load_state_dict({**optimiser.state_dict(), "state": run.state["optimiser"]})
        while run.fraction(done) < 1:
            rng = np.random.default_rng([run.seed, done])
            chosen = rng.choice(len(data), self.batch, p=data.weights)
            images = [colour(image).to(run.device) for image in data.read(chosen)]
            targets = [
                {"boxes": torch.from_numpy(data.boxes[i]), "labels": torch.from_numpy(data.labels[i]) + 1}
                for i in chosen
            ]
            targets = [{name: value.to(run.device) for name, value in one.items()} for one in targets]
            loss = sum(network(images, targets).values())
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            done += 1
            run.log(done, loss=float(loss.detach()))
            run.checkpoint(done, lambda: self.unfinished(network, optimiser, done))  # noqa: B023
        self.network = network.eval()

    @staticmethod
    def unfinished(network, optimiser, done):
        return {"done": done, "network": network.state_dict(), "optimiser": optimiser.state_dict()["state"]}

    def state_dict(self):
        return self.network.state_dict()

    def load_state_dict(self, state, spec, device="cpu"):
        network = self.build(spec)
        try:
            network.load_state_dict(dict(state))
        except RuntimeError as error:
            raise BadInput("these weights are no SSDlite for these labels") from error
        self.network = network.to(device).eval()

    @torch.no_grad()
    def predict(self, images):
        device = next(self.network.parameters()).device
        for image in images:
            (found,) = self.network([colour(image).to(device)])
            order = found["scores"].argsort(descending=True, stable=True)
            whole = (found["boxes"][order, 2:] > found["boxes"][order, :2]).all(1)
            boxes, scores, labels = (found[name][order][whole].cpu().numpy() for name in ("boxes", "scores", "labels"))
            yield boxes, scores, labels - 1


def colour(image):
    """Return an image (c, h, w) as a tensor (3, h, w)."""
    return torch.from_numpy(np.broadcast_to(image, (3, *image.shape[1:])).copy())
