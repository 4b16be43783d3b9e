"""The dataset store: one immutable HDF5 file of images, boxes, optional masks and where each came from."""

from medaug_cli.boxes import digest_patient
from medaug_cli.store.examples import (
    StoreExamples,
    conditions_in,
    detector_examples,
    generator_examples,
    not_outlined_words,
    training_examples,
    unannotated_words,
)
from medaug_cli.store.kinds import NORMAL, kinds, kinds_apart, of_kind
from medaug_cli.store.model import LEARNT_FROM, GeneratorOrigin, Record, StoreInfo
from medaug_cli.store.reading import Store, open_store
from medaug_cli.store.writing import StoreWriter, already_made, store_claimed

__all__ = [
    "LEARNT_FROM",
    "NORMAL",
    "GeneratorOrigin",
    "Record",
    "Store",
    "StoreExamples",
    "StoreInfo",
    "StoreWriter",
    "already_made",
    "conditions_in",
    "detector_examples",
    "digest_patient",
    "generator_examples",
    "kinds",
    "kinds_apart",
    "not_outlined_words",
    "of_kind",
    "open_store",
    "store_claimed",
    "training_examples",
    "unannotated_words",
]
