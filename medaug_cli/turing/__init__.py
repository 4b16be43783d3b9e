"""The Visual Turing Test (Han et al., 2.4): can physicians tell synthetic images from real ones?

planning -> atlas -> page (one HTML file a reader) and the key; key + answers -> scoring (statistics) -> report.
"""

from medaug_cli.turing.documents import AnswerFile, Key
from medaug_cli.turing.making import StudyOptions, make_study
from medaug_cli.turing.report import TuringReport
from medaug_cli.turing.scoring import ScoreOptions, score_study

__all__ = ["AnswerFile", "Key", "ScoreOptions", "StudyOptions", "TuringReport", "make_study", "score_study"]
