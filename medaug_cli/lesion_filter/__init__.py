"""Drop synthetic images that clearly lack the disease, and nothing else (Han et al. 2019, 2.3: artefacts stay)."""

from medaug_cli.lesion_filter.sifting import FilterOptions, FilterReport, Verdict, read_decisions, sift

__all__ = ["FilterOptions", "FilterReport", "Verdict", "read_decisions", "sift"]
