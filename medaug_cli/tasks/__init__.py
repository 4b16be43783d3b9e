"""What networks are trained for: one object a task answers what differs, everything else is written once.

`task` -> what it may be trained on, its score on validation, its measures, its pictures. Tasks are registered by the
entry point `medaug.tasks`; the networks of a task by `medaug.KINDs`, such as `medaug.classifiers`.
"""
