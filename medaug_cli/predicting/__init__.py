"""Run a trained network on new scans and write its answers in the scans' own pixels."""

from medaug_cli.predicting.prediction import Prediction, PredictOptions, predict

__all__ = ["PredictOptions", "Prediction", "predict"]
