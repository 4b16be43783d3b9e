"""Layers, box maps and training pieces that more than one generator is built of."""

from medaug_plugins.layers.box_maps import ellipses, soft_boxes
from medaug_plugins.layers.descent import Descent
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
from medaug_plugins.layers.sharing import check_shares, mine, whole
from medaug_plugins.layers.training import Chance, descend, load_moments, load_weights, move_average, place, train

__all__ = [
    "LEAK",
    "RELU_GAIN",
    "Chance",
    "Descent",
    "EqualizedConv",
    "EqualizedDense",
    "activate",
    "check_shares",
    "descend",
    "draw_weights",
    "ellipses",
    "load_moments",
    "load_weights",
    "mine",
    "minibatch_deviation",
    "move_average",
    "pixel_norm",
    "place",
    "soft_boxes",
    "train",
    "whole",
]
