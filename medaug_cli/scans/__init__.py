"""Scans: read them, strip them, place them in a square and split them by patient."""
