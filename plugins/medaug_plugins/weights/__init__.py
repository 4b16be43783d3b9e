"""Weights to start generators from: a folder each, with its card; benchmarks/make_weights.py made them."""
