"""medaug: turn a small annotated set of medical images into a larger one, and measure whether it helped.

    scans + boxes --preprocess--> real.h5 --train-gan--> gan/ --synthesize--> synthetic.h5 --filter--> kept.h5
    real.h5 [--synthetic kept.h5] --train-detector--> detector/ --evaluate--> Table 1, FROC, overlays
    real.h5 kept.h5 --tsne--> tsne.png

cli -> commands -> registry, runs, embedding, scans, figures -> store, metrics -> boxes -> plugin -> errors.
Imports point downwards only. Generators and detectors are plugins behind entry points; they see
`medaug_cli.plugin` and nothing else. Every command reads files and writes one result, by rename.
"""

__version__ = "0.2.0"
