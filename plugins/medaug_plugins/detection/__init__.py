"""What detectors share: classical augmentation, the training loop, non-maximum suppression, fusion of detections."""
