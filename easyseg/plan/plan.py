"""The plan: all decisions of a fit as one frozen value, each with its reason, kept as JSON."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from easyseg.errors import OptionError, nearest
from easyseg.files import write_text
from easyseg.plan.costs import Estimate
from easyseg.plan.domains import DOMAINS, flatten, parse
from easyseg.plan.facts import FROM_YOUR_PLAN, SET_BY_YOU
from easyseg.plan.sections import (
    SECTIONS,
    AdapterPlan,
    BackbonePlan,
    DataPlan,
    HeadPlan,
    LossPlan,
    OptimPlan,
    TrainPlan,
)

if TYPE_CHECKING:
    from rich.table import Table

__all__ = [
    "AdapterPlan",
    "BackbonePlan",
    "DataPlan",
    "HeadPlan",
    "LossPlan",
    "OptimPlan",
    "Plan",
    "TrainPlan",
    "in_words",
]


WITHOUT_EFFECT = "; without effect on"
"""What the reason of a value says that another value makes meaningless."""

_TOP_TYPES = {"problem_type": str, "num_classes": int, "metric": str, "preset": str}


@dataclass(frozen=True)
class Plan:
    """All decisions of a fit.

    Attributes:
        problem_type: ``"binary"`` or ``"multiclass"``.
        num_classes: Classes, background included.
        metric: Validation metric, a key ``metric@averaging``.
        preset: Name of the preset that the values started from.
        backbone: Which network is adapted.
        adapter: What is trained inside of the encoder.
        head: Which head.
        loss: Which loss.
        optim: How the optimizer steps.
        data: How images enter the network.
        train: How long and in what portions.
        reasons: Why each value is what it is, by dotted key.
        estimate: What the fit is expected to take, if a probe measured it; not a decision. It is
            that of the plan before it was edited, if it was.
    """

    problem_type: str
    num_classes: int
    metric: str
    preset: str
    backbone: BackbonePlan
    adapter: AdapterPlan
    head: HeadPlan
    loss: LossPlan
    optim: OptimPlan
    data: DataPlan
    train: TrainPlan
    reasons: Mapping[str, str] = field(default_factory=dict, hash=False)
    estimate: Estimate | None = field(default=None, compare=False)

    TOP: ClassVar[tuple[str, ...]] = tuple(_TOP_TYPES)

    @classmethod
    def from_values(cls, values: Mapping[str, Any], reasons: Mapping[str, str]) -> Plan:
        """Build a plan from dotted keys.

        Args:
            values: The value of every key of a plan, e.g. ``{"adapter.rank": 4, ...}``.
            reasons: Why, by the same keys; may be incomplete.

        Raises:
            OptionError: If a key is missing or unknown, or a value is not possible.
        """
        known = (*cls.TOP, *DOMAINS)
        for key in values:
            if key not in known:
                raise OptionError(f"plan: unknown key {key!r}. {nearest(key, known)}")
        missing = [key for key in known if key not in values]
        if missing:
            raise OptionError(f"plan: no value for {', '.join(missing)}.")
        for key, kind in _TOP_TYPES.items():
            if not isinstance(values[key], kind):
                raise OptionError(
                    f"plan: {key} = {values[key]!r} is not possible: expected "
                    f"{'a whole number' if kind is int else 'a word'}."
                )
        if values["problem_type"] not in ("binary", "multiclass"):
            raise OptionError(
                f"plan: problem_type = {values['problem_type']!r} is not possible: "
                "expected 'binary' or 'multiclass'."
            )
        checked = {key: parse(key, values[key], where="plan") for key in DOMAINS}
        sections = {
            name: section(
                **{f.name: checked[f"{name}.{f.name}"] for f in dataclasses.fields(section)}
            )
            for name, section in SECTIONS.items()
        }
        return cls(**{key: values[key] for key in cls.TOP}, **sections, reasons=dict(reasons))

    def values(self) -> dict[str, Any]:
        """Return all values by dotted key, in the order of :meth:`rows`."""
        top = {key: getattr(self, key) for key in self.TOP}
        parts = (key.split(".") for key in DOMAINS)
        return top | {f"{room}.{name}": getattr(getattr(self, room), name) for room, name in parts}

    def digest(self) -> str:
        """Return a short hash of all values: equal plans have equal ones.

        Raises:
            OptionError: If a value is not possible.
        """
        values = self.values()
        values |= {key: parse(key, values[key], where="plan") for key in DOMAINS}
        return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:16]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types: nested sections, tuples as lists; any estimate."""
        record = dataclasses.asdict(self)
        if self.estimate is None:
            del record["estimate"]
        return json.loads(json.dumps(record))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Plan:
        """Rebuild a plan from :meth:`to_dict`; the exact inverse.

        Raises:
            OptionError: If a key is missing or unknown, or a value is not possible.
        """
        rest = dict(data)
        reasons, estimate = rest.pop("reasons", {}), rest.pop("estimate", None)
        if not isinstance(reasons, Mapping):
            raise OptionError(f"plan: reasons = {reasons!r}, expected words by key: leave it out.")
        for key, reason in reasons.items():
            if not isinstance(reason, str):
                raise OptionError(
                    f"plan: the reason of {key} is {reason!r}, expected words: leave it out."
                )
        plan = cls.from_values(flatten(rest, where="plan"), reasons)
        if estimate is None:
            return plan
        try:
            return dataclasses.replace(plan, estimate=Estimate(**estimate))
        except TypeError as error:
            raise OptionError(f"plan: the estimate is {estimate!r}: leave it out.") from error

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the plan as JSON: beside the file first, then moved into its place."""
        text = json.dumps(self.to_dict(), indent=2, ensure_ascii=False)
        write_text(Path(path).expanduser(), text + "\n")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Plan:
        """Read a plan that :meth:`save` wrote, or that was edited by hand.

        Raises:
            OptionError: If the file cannot be read, is no JSON object, or holds no plan.
        """
        try:
            text = Path(path).expanduser().read_text(encoding="utf-8-sig")  # Windows adds a mark
            data = json.loads(text)
        except OSError as error:
            raise OptionError(f"{path} cannot be read as a plan: {error.strerror}.") from error
        except ValueError as error:
            raise OptionError(f"{path} is no JSON: {error}. Restore it or plan anew.") from error
        if not isinstance(data, dict):
            raise OptionError(f"{path} must hold a JSON object, found {type(data).__name__}.")
        try:
            return cls.from_dict(data)
        except OptionError as error:
            raise OptionError(f"{path}: {error}") from error

    def rows(self) -> list[tuple[str, str, str]]:
        """Return every decision as (dotted key, value in words, reason)."""
        return [(key, in_words(v), self.reasons.get(key, "")) for key, v in self.values().items()]

    def _shown(self) -> list[tuple[str, str, str]]:
        """Return the decisions but for those of easyseg that are without effect."""
        return [
            row
            for row in self.rows()
            if WITHOUT_EFFECT not in row[2] or row[2].startswith((SET_BY_YOU, FROM_YOUR_PLAN))
        ]

    def __str__(self) -> str:
        rows = self._shown()
        wide = [max(len(row[column]) for row in rows) for column in (0, 1)]
        lines = [
            f"{key:<{wide[0]}}  {value:<{wide[1]}}  {why}".rstrip() for key, value, why in rows
        ]
        return "\n".join([*lines, *filter(None, [self.expected()])])

    def expected(self) -> str:
        """Return the estimate in words; empty if there is none."""
        if self.estimate is None:
            return ""
        try:
            known = self.estimate.plan == self.digest()
        except OptionError:
            known = False
        if not known:
            return "expected: not known, another plan was measured; plan(plan=...) may measure it"
        return f"expected: {self.estimate} on {self.estimate.machine}"

    def __rich__(self) -> Table:
        """Return the table that rich prints: decision, value, because."""
        from rich.markup import escape
        from rich.table import Table

        table = Table(title="Plan", caption=self.expected() or None, header_style="bold")
        table.title_justify = table.caption_justify = "left"
        table.add_column("decision", no_wrap=True)
        table.add_column("value", style="cyan", overflow="fold")
        table.add_column("because", style="dim")
        for row in self._shown():
            table.add_row(*map(escape, row))
        return table

    def _repr_html_(self) -> str:
        """Return the same table for a notebook."""
        from easyseg.views.notebook import plan_html

        return plan_html(self)


def in_words(value: Any) -> str:
    """Write a value for people.

    Example:
        >>> in_words((1, 2, 3)), in_words(True), in_words(0.0003)
        ('1, 2, 3', 'yes', '0.0003')
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)
