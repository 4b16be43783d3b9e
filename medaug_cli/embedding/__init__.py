"""Look at real against synthetic images: a map, and the numbers that a map cannot show."""

from medaug_cli.embedding.layout import LEAST, MapOptions, MapReport, SetNumbers, compare_sets, draw_map

__all__ = ["LEAST", "MapOptions", "MapReport", "SetNumbers", "compare_sets", "draw_map"]
