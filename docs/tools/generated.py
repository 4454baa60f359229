"""The generated parts of pages by name: functions that return Markdown."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from code_tables import (
    backbones,
    datasets,
    domains,
    kinds,
    metric_table,
    plan_keys,
    preset_budgets,
    preset_files,
    studies,
)
from command_line import command_line
from excerpts import excerpt, marked, whole
from plan_rules import fixed_keys, rules

PARTS: Mapping[str, Callable[..., str]] = {
    "backbones": backbones,
    "command_line": command_line,
    "datasets": datasets,
    "domains": domains,
    "excerpt": excerpt,
    "fixed_keys": fixed_keys,
    "kinds": kinds,
    "marked": marked,
    "metrics": metric_table,
    "plan_keys": plan_keys,
    "preset_budgets": preset_budgets,
    "preset_files": preset_files,
    "rules": rules,
    "studies": studies,
    "whole": whole,
}
