"""Layers, box maps and training pieces that more than one generator is built of."""

from medaug_plugins.layers.box_maps import ellipses, map_of_label, soft_boxes
from medaug_plugins.layers.carrying import Slots, anew_words, carry, named_alike
from medaug_plugins.layers.layers import (
    LEAK,
    RELU_GAIN,
    EqualizedConv,
    EqualizedDense,
    activate,
    draw_weights,
    minibatch_deviation,
    pixel_norm,
)
from medaug_plugins.layers.noise import draw_latents
from medaug_plugins.layers.optimizer import ScaledAdam
from medaug_plugins.layers.resampling import averaged, double, sampled, spread
from medaug_plugins.layers.sharing import check_shares, mine, refuse_half, whole
from medaug_plugins.layers.training import (
    CHANNELS_LAST,
    LOG_EVERY,
    StepRandomness,
    annealed,
    laid_out,
    load_moments,
    load_weights,
    move_average,
    optimizer_step,
    place,
    train,
)

__all__ = [
    "CHANNELS_LAST",
    "LEAK",
    "LOG_EVERY",
    "RELU_GAIN",
    "EqualizedConv",
    "EqualizedDense",
    "ScaledAdam",
    "Slots",
    "StepRandomness",
    "activate",
    "anew_words",
    "annealed",
    "averaged",
    "carry",
    "check_shares",
    "double",
    "draw_latents",
    "draw_weights",
    "ellipses",
    "laid_out",
    "load_moments",
    "load_weights",
    "map_of_label",
    "mine",
    "minibatch_deviation",
    "move_average",
    "named_alike",
    "optimizer_step",
    "pixel_norm",
    "place",
    "refuse_half",
    "sampled",
    "soft_boxes",
    "spread",
    "train",
    "whole",
]
