"""What networks are trained for: one object a task answers what differs, everything else is written once.

`task` -> what it may be trained on, its score on validation, its measures, its pictures. Tasks are registered by the
entry point `medaug.tasks`; the networks of a task by `medaug.KINDs`, such as `medaug.classifiers`. A stranger's task
imports what stands here, and `medaug_cli.plugin`.
"""

from medaug_cli.metrics.measures import Measure
from medaug_cli.store import Store
from medaug_cli.tasks.task import Figure, Task, patient_numbers

__all__ = ["Figure", "Measure", "Store", "Task", "patient_numbers"]
