"""Programs in several processes, and what they train together."""

import os
import socket
import tempfile
from functools import partial
from pathlib import Path

import torch
from forking import ended, forked

from medaug_plugins.layers import EqualizedConv, EqualizedDense, draw_weights, mine, minibatch_deviation, whole


def start(work, processes):
    """Call a function in forks as torchrun would start programs; return exit code, output and messages of each."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    common = {"WORLD_SIZE": str(processes), "MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}

    def ranked(rank, printed):
        os.environ.update(common, RANK=str(rank), LOCAL_RANK=str(rank))
        os.dup2(os.open(printed, os.O_CREAT | os.O_WRONLY), 1)
        work()

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        forks = [
            forked(partial(ranked, rank, folder / f"printed{rank}.txt"), folder, f"said{rank}.txt")
            for rank in range(processes)
        ]
        codes = [ended(fork) for fork in forks]
        told = [
            [(folder / f"{kind}{rank}.txt").read_text(encoding="utf-8") for kind in ("printed", "said")]
            for rank in range(processes)
        ]
    return [(code, *words) for code, words in zip(codes, told, strict=True)]


NETWORKS = {"latent": 8, "base": 64, "max_maps": 8}
BOXES = {**NETWORKS, "embedding": 4, "batch": 4, "r1_every": 2, "lr": 0.002, "target": 0.6}
SHARING = {  # thousand images, settings
    "boxgan": (0.08, BOXES),
    "boxgan-relativistic": (0.04, {**BOXES, "loss": "relativistic", "crop": 1.0, "reading": 0.5, "anneal": 0}),
    "boxgan-unannotated": (0.04, BOXES),  # of half the training patients
    # One step: it compares every gradient's sign; in later ones the deep features of ImageNet multiply rounding.
    "boxgan-frozen": (0.004, {**BOXES, "frozen": 0.5, "frozen_gamma": 1.0}),
    "inpaint": (0.04, {"patch": 16, "latent": 4, "width": 4, "max_maps": 8, "batch": 4, "r1_every": 2}),
    "regions": (0.04, {**NETWORKS, "side": 16, "batch": 4, "lr": 0.002}),
}
RESUMED = "boxgan-relativistic"


def penalised_gradients(run) -> list[torch.Tensor]:
    """Return the gradients of a loss with R1 through the minibatch standard deviation and a variance of a batch."""
    chance = torch.Generator().manual_seed(0)
    conv, dense = EqualizedConv(3, 4, 3), EqualizedDense(4 * 16, 1)
    for layer in (conv, dense):
        draw_weights(layer, chance)
    images = mine(torch.randn(4, 2, 4, 4, generator=chance), run).requires_grad_()
    scores = dense(conv(minibatch_deviation(images.tanh(), run)).square().flatten(1)).squeeze(1)
    (gradient,) = torch.autograd.grad(scores.sum(), images, create_graph=True)
    loss = gradient.square().flatten(1).sum(1).mean() + whole(scores, run).var().sqrt()
    weights = [*conv.parameters(), *dense.parameters()]
    gradients = [torch.zeros_like(weight) if g is None else g for weight, g in zip(
        weights, torch.autograd.grad(loss, weights, allow_unused=True), strict=True)]  # fmt: skip
    run.average(gradients)
    return gradients
