"""The training loop that detectors, classifiers and segmenters share."""
