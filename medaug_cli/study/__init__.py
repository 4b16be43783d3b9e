"""Does it help on these data? Networks trained with and without synthetic images, judged on the same patients."""

from medaug_cli.study.analysis import StudyReport
from medaug_cli.study.arms import Arm, parse_arm
from medaug_cli.study.judging import run_study
from medaug_cli.study.telling import task_of
from medaug_cli.study.trials import StudyOptions

__all__ = ["Arm", "StudyOptions", "StudyReport", "parse_arm", "run_study", "task_of"]
