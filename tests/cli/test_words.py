"""Numbers keep their zeros, and what is counted stands in the right number."""

import pytest

from medaug_cli.tables import significant
from medaug_cli.words import counted


@pytest.mark.parametrize(("count", "thing", "said"), [
    (1, "image", "1 image"), (2, "image", "2 images"), (0, "image", "0 images"), (1, "box", "1 box"),
    (3, "box", "3 boxes"),
    (1, "training patient", "1 training patient"), (9, "training patient", "9 training patients"),
    (2, "class", "2 classes"), (2, "patch", "2 patches"),
])  # fmt: skip
def test_things_are_counted(count, thing, said):
    assert counted(count, thing) == said


@pytest.mark.parametrize(("value", "said"), [
    (0.5, "0.500"), (1.0, "1.00"), (0.1234, "0.123"), (12.0, "12.0"), (100.0, "100"), (0.0412, "0.0412"), (0.0, "0.00"),
    (None, "–"),
])  # fmt: skip
def test_zeros_at_the_end_are_kept(value, said):
    assert significant(value).text == said
