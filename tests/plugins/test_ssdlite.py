"""Somebody else's detector, wrapped as the example shows, keeps the contract."""

import importlib.util
from functools import wraps
from pathlib import Path

import torch

from medaug_cli.testing import check_detector

SOURCE = Path(__file__).parents[2] / "examples" / "medaug-ssdlite" / "medaug_ssdlite.py"
SIDE, WIDTH = 96, 0.35  # to which torchvision enlarges images here, not 320, and its share of the channels


def small(make):
    """Let torchvision make a narrower SSDlite that enlarges images less: the wrapping is tried, not the network."""

    @wraps(make)
    def made(**options):
        network = make(**options, width_mult=WIDTH)
        network.transform.fixed_size = (SIDE, SIDE)
        return network

    return made


def test_the_example_of_a_wrapped_detector_keeps_the_contract():
    spec = importlib.util.spec_from_file_location("medaug_ssdlite", SOURCE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.ssdlite320_mobilenet_v3_large = small(module.ssdlite320_mobilenet_v3_large)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    results = check_detector(module.SSDLite, {"batch": 2})
    torch.set_num_threads(threads)
    assert all(one.ok for one in results), [one.sentence for one in results if not one.ok]
