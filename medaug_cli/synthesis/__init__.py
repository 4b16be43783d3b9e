"""Draw a synthetic store from a trained generator: for boxes, or like the images of a store."""

from medaug_cli.synthesis.drawing import SynthesisOptions, default_boxes, images_of_part, rehearse, synthesize

__all__ = ["SynthesisOptions", "default_boxes", "images_of_part", "rehearse", "synthesize"]
