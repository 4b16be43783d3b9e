"""Pictures: sample grids, FROC curves, overlays."""
