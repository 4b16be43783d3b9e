"""Annotations in files: one module a format, and one rule for what is broken in them."""
