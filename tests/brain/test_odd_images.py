"""Brain extraction from images that are allowed and unusual: it says what is doubtful, and never fails."""

import numpy as np
import pytest

from medaug_cli.brain.extraction import extract_brain
from medaug_cli.brain.head import head_depth
from medaug_cli.testing.strippers import head


def hollow(dims):
    """Return a skull alone (*s), as a window of bone leaves of a CT, and its spacing in mm."""
    image, _, spacing = head(dims)
    middle = np.array(image.shape).reshape(-1, *[1] * dims) / 2
    radius = np.sqrt((((np.indices(image.shape) - middle) / (0.86 * middle)) ** 2).sum(0))
    return np.where((radius < 1) & (radius > 0.9), 200, 0).astype(np.float32), spacing


@pytest.mark.parametrize(("dims", "strip"), [(2, "brain2d"), (3, "brain3d")])
def test_a_skull_with_nothing_in_it_has_no_brain(dims, strip):
    image, spacing = hollow(dims)
    found = extract_brain(image, strip, spacing)
    assert found.doubtful
    assert "no brain was found" in found.reason
    assert found.mask[image > 0].all()


def test_a_slab_as_deep_as_a_brain_must_be_and_no_deeper_has_no_brain():
    image = np.zeros((9, 100, 90), np.float32)
    image[:, 5:95, 5:85] = 100
    assert head_depth(image > 0, (5.0, 2.0, 2.0)).max() == 25
    assert "no brain was found" in extract_brain(image, "brain3d", (5.0, 2.0, 2.0)).reason
