"""Begin a generator with what another one has learnt: a trained folder, a shared one, or installed weights by name."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medaug_cli import registry
from medaug_cli.boxes import patients_seen
from medaug_cli.errors import BadInput, UsageError
from medaug_cli.plugin import Continuing, ImageSpec
from medaug_cli.runs.loading import load_parts
from medaug_cli.runs.metadata import GeneratorMetadata
from medaug_cli.runs.weights import checkpoint_of
from medaug_cli.store import Store
from medaug_cli.weights import card_of, generator_folder


@dataclass(frozen=True)
class Start:
    """A loaded generator to begin with."""

    given: str  # its folder, or the name of installed weights
    folder: Path
    plugin: Any
    metadata: GeneratorMetadata
    checkpoint: Mapping[str, Any] | None  # what its `fit` wrote last, where that is at hand
    advised: Mapping[str, Any]  # settings that its card advises for a run that begins with it

    def built(self, name: str | None, settings: Mapping[str, Any]) -> tuple[str, Any]:
        """Return the name and a plugin of its kind with its settings, but for those that are advised or given.

        Raises UsageError where another generator is asked for, or it cannot be begun with.
        """
        own = self.metadata.name
        if name not in (None, own):
            raise UsageError(f"--start {self.given}: it holds a {own}, from which {name} cannot start")
        plugin = registry.build("generator", own, {**self.metadata.settings, **self.advised, **settings})
        if not plugin.capabilities.continues or not isinstance(plugin, Continuing):
            raise UsageError(f"--start {self.given}: {own} cannot continue from trained weights")
        return own, plugin

    def check(self, store: Store) -> None:
        """Raise BadInput where it was fitted on a patient whom a store holds out for validation or test."""
        refuse_held_out(self.given, self.metadata.training_patients, store)

    def begin(self, plugin: Any, spec: ImageSpec) -> str:
        """Let the next fit of a plugin begin with it; return in words what is newly initialised.

        BadInput of the plugin names what is begun with.
        """
        try:
            anew = plugin.begin_with(self.plugin, spec, self.checkpoint)
        except BadInput as error:
            raise BadInput(f"--start {self.given}: {error}") from error
        how = f"newly initialised, in the {'; in the '.join(anew)}" if anew else "all of them fit"
        followed = [f"{name}={value}" for name, value in self.advised.items() if getattr(plugin, name, None) == value]
        advice = f"; with {', '.join(followed)}, as their card advises" if followed else ""
        return f"begins with the weights of {self.given}; {how}{advice}"


def refuse_held_out(given: str, training_patients: Collection[str], store: Store) -> None:
    """Raise BadInput where what was fitted on patients, by their digests, is to start a run that holds one out."""
    others = {store.patients[i] for i in np.flatnonzero(store.splits != "train")}
    seen = sorted(patients_seen(others, training_patients))
    if seen:
        more = f" (and {len(seen) - 1} more)" if len(seen) > 1 else ""
        raise BadInput(
            f"--start {given}: it was fitted on patient {seen[0]}{more}, which {store.path} holds out for "
            "validation or test; if these are different people, rename them"
        )


def opened_start(start: str | Path) -> Start:
    """Load what to start from: a folder, or installed weights by their name.

    Raises BadInput for a folder without a generator and an unknown name, UsageError for a folder with a
    generator for each class.
    """
    folder = generator_folder(start)
    metadata, parts = load_parts(folder)
    if metadata.parts:
        choices = ", ".join(str(folder / name) for name in metadata.parts.values())
        raise UsageError(f"--start {start}: it holds a generator for each class; choose one of {choices}")
    (plugin,) = parts.values()
    card = card_of(folder)
    advised = {} if card is None else card.start_with
    return Start(str(start), folder, plugin, metadata, checkpoint_of(folder), advised)
