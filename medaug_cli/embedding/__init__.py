"""Look at real against synthetic images: a map, and the numbers that a map cannot show."""

from medaug_cli.embedding.layout import MapOptions, MapReport, draw_map

__all__ = ["MapOptions", "MapReport", "draw_map"]
