"""The command line: the same words as ``SemanticSegmentor``.

Results go to standard output, messages to standard error. Heavy libraries are imported by the
commands, after their first message, so that ``easyseg --help`` and that message come at once.
"""

from easyseg.cli.app import app, main
from easyseg.cli.comparing import study
from easyseg.cli.data import audit, datasets
from easyseg.cli.inference import evaluate, info, predict
from easyseg.cli.training import demo, fit, plan

__all__ = [
    "app",
    "audit",
    "datasets",
    "demo",
    "evaluate",
    "fit",
    "info",
    "main",
    "plan",
    "predict",
    "study",
]
