"""Pictures of images of any channels and kind of number, and of lesions thinner than a slice."""

from types import SimpleNamespace

import numpy as np
import pytest

from medaug_cli.evaluation.gallery import Gallery, _add
from medaug_cli.figures.errors_page import as_jpeg
from medaug_cli.figures.filter_page import Card, filter_html
from medaug_cli.figures.grid import as_picture, draw_grid
from medaug_cli.figures.overlays import draw_overlay
from medaug_cli.figures.planes import planes
from medaug_cli.metrics import found_boxes, true_boxes

THIN = [[2, 2, z, 6, 6, z + t] for z, t in ((3, 0), (3, 0.2), (-2, 1), (-1, 1), (7.5, 2), (8, 0), (8, 3), (20, 4))]
NOTHING = np.zeros((0, 4), np.float32)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("depth", [(), (4,)])
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
def test_three_channels_are_colours_and_of_others_the_first_is_shown(channels, depth, kind):
    full = {np.uint8: 255, np.uint16: 65535, np.float32: 1}[kind]
    image = np.zeros((channels, *depth, 16, 20), kind)
    image[0] = full
    picture = as_picture(image)
    assert picture.shape == (16, 20, 3)
    assert picture[3, 3].tolist() == ([255, 0, 0] if channels == 3 else [255, 255, 255])


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_every_drawing_takes_any_channels(channels):
    image = np.full((channels, 16, 16), 90, np.uint8)
    assert draw_grid([image], [NOTHING]).size == (132, 132)
    assert as_jpeg(image)[1:] == (512, 512)
    assert draw_overlay(image, NOTHING, [], "one").size[1] > 400
    assert "one" in filter_html([Card("one", image, NOTHING, True, "", None)], "", "a.h5", "medaug")


@pytest.mark.parametrize("low", [2.0, 2.1, 2.4, 2.6, 2.9, 3.0])
def test_a_lesion_thinner_than_a_slice_is_in_the_planes_through_it(low):
    box = np.array([[4, 4, low, 8, 8, low + 0.5]], np.float32)
    assert [len(met) for _, met in planes(np.zeros((1, 8, 10, 12)), box)] == [1, 1, 1]


@pytest.mark.parametrize("box", THIN)
def test_a_detection_of_no_depth_or_beyond_a_volume_has_its_card(box):
    found = found_boxes([(np.array([box], np.float32), np.ones(1), np.zeros(1, np.int64))], 3)
    truth = true_boxes([np.array([[8, 8, 2, 12, 12, 5]], np.float32)], [np.zeros(1, np.int64)], 3)
    data = SimpleNamespace(dims=3, truth=truth, image_names=["one"], patients=["p"])
    gallery = Gallery(SimpleNamespace(data=data, picture=lambda image: np.zeros((1, 8, 16, 16))))
    seen = SimpleNamespace(kept=np.ones(1, bool), hit=np.zeros(1, bool), found=np.zeros(1, bool))
    card = ("false alarm", "", "lesion", 1.0, 4.0)
    assert _add(gallery, "detector", 0, found.boxes[0], which=("found", 0), card=card, found=found, seen=seen)
    [scene], [mistake] = gallery.scenes, gallery.mistakes
    assert scene.boxes[mistake.focus].kind == "false"
