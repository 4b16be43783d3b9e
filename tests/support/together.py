"""Programs in several processes, and what they train together."""

import os
import socket
import subprocess

import torch

from medaug_plugins.layers import EqualizedConv, EqualizedDense, draw_weights, mine, minibatch_deviation, whole


def start(program: list[str], processes: int, *arguments: object) -> list[tuple[int, str, str]]:
    """Run a program in processes as torchrun would start them; return exit code, output and messages of each."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    quiet = {key: value for key, value in os.environ.items() if not key.startswith("PYTHONWARN")}
    common = {**quiet, "OMP_NUM_THREADS": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
    started = []
    for rank in range(processes):
        place = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes)}
        command = [*program, *map(str, arguments)]
        started.append(
            subprocess.Popen(
                command, env=common | place, text=True, encoding="utf-8", stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
        )
    outcomes = [process.communicate(timeout=300) for process in started]
    return [(process.returncode, *outcome) for process, outcome in zip(started, outcomes, strict=True)]
NETWORKS = {"latent": 8, "base": 64, "max_maps": 8}
BOXES = {**NETWORKS, "embedding": 4, "batch": 4, "r1_every": 2, "lr": 0.002, "target": 0.6}
SHARING = {  # thousand images, settings
    "boxgan": (0.16, BOXES),
    "boxgan-relativistic": (0.08, {**BOXES, "loss": "relativistic", "crop": 1.0, "reading": 0.5, "anneal": 0}),
    "inpaint": (0.08, {"patch": 16, "latent": 4, "width": 4, "max_maps": 8, "batch": 4, "r1_every": 2}),
    "regions": (0.08, {**NETWORKS, "side": 16, "batch": 4, "lr": 0.002}),
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
