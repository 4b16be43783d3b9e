"""Evaluate detectors on a store or on COCO files, and publish tables, curves and pictures as one folder."""
