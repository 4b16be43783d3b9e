"""timm's architectures by their names alone."""

import re


def is_architecture(name: str) -> bool:
    """Tell whether timm knows an architecture, or pretrained weights of one (`resnet18.a1_in1k`), by this name.

    timm also takes a hub's address or a folder for a name. A name may come from somebody else's detector.json, and
    nothing in a file may point to another place.
    """
    if re.fullmatch(r"\w+(\.\w+)?", name) is None:
        return False
    import timm

    return timm.is_model(name.partition(".")[0])
