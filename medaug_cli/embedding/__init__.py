"""Look at real against synthetic images: a map, and the numbers that a map cannot show."""

from medaug_cli.embedding.comparison import LEAST, MapOptions, SetNumbers, compare_sets
from medaug_cli.embedding.layout import MapReport, draw_map

__all__ = ["LEAST", "MapOptions", "MapReport", "SetNumbers", "compare_sets", "draw_map"]
