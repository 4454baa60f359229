"""From the user's table to all that training needs: samples, label map, fingerprint, plan."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from easyseg.artifact import TrainedModel
from easyseg.auditing.audit import examine, examine_labelled
from easyseg.auditing.facts import ImageFacts
from easyseg.auditing.fingerprint import Fingerprint, fingerprint
from easyseg.auditing.grouping import Grouping, find_grouping, find_likeness
from easyseg.auditing.tables import AuditTable
from easyseg.data.label_map import IGNORE, LabelMap
from easyseg.data.label_rules import Classes, RawValue
from easyseg.data.split import holdout
from easyseg.data.table import Groups, Samples
from easyseg.errors import DataError
from easyseg.files import write_text
from easyseg.models.network import Network
from easyseg.models.registry import get_spec, list_backbones
from easyseg.models.weights import is_obtainable
from easyseg.plan.costs import Costs
from easyseg.plan.decisions import check_given, check_request, decide
from easyseg.plan.hardware import Hardware
from easyseg.plan.paths import with_absolute_weights, with_absolute_weights_in
from easyseg.plan.plan import Plan
from easyseg.plan.presets import load_preset, parse_presets
from easyseg.plan.repeats import VARIANTS
from easyseg.plan.sections import images_validated

__all__ = ["Decisions", "Prepared", "prepare", "read_labelled", "resolve_problem"]

log = logging.getLogger("easyseg")

_FAR = 1.5  # times more or less than the asked share of the validation part: worth a warning


@dataclass(frozen=True)
class Decisions:
    """What all ranks must agree on, in types that can be sent.

    Attributes:
        plan: ``Plan.to_dict()``.
        label_map: ``LabelMap.to_dict()``.
        train: Positions of the training part, ``None`` if the tuning data are a table of their own.
        run_folder: The run folder of rank 0.
    """

    plan: dict[str, Any]
    label_map: dict[str, Any]
    train: tuple[int, ...] | None
    validation: tuple[int, ...] | None
    run_folder: str


@dataclass(frozen=True)
class Prepared:
    """All that training needs to know.

    Attributes:
        samples: The training table.
        tuning: The tuning table, if there is one.
        split: Positions in ``samples`` of the training and the validation part, if there is none.
        label_map: Raw mask values and class ids.
        fingerprint: What the data look like.
        plan: All decisions.
        run_folder: Where the fit writes.
        columns: Names of the image and the label column.
        hardware: The machine that the plan is for.
        costs: What a probe measured, if there was one.
    """

    samples: Samples
    tuning: Samples | None
    split: tuple[tuple[int, ...], tuple[int, ...]] | None
    label_map: LabelMap
    fingerprint: Fingerprint
    plan: Plan
    run_folder: Path
    columns: Mapping[str, str]
    hardware: Hardware
    costs: Costs | None = None

    def training_samples(self) -> Samples:
        """Return the samples to train on."""
        return self.samples if self.split is None else self.samples.take(self.split[0])

    def validation_samples(self) -> Samples:
        """Return the samples that choose the best epoch."""
        if self.split is not None:
            return self.samples.take(self.split[1])
        assert self.tuning is not None
        return self.tuning

    def validating_fewer(self, presence: np.ndarray, seed: int) -> Prepared:
        """Return the same with the planned number of validation samples, drawn by a seed.

        Which classes each of them holds is ``presence``, bool ``[N, K]``.
        """
        count = len(presence)
        taken = images_validated(self.plan.train.validation_images, count)
        if taken == count:
            return self
        # What is learned, not what is held out: that side keeps a class that one image holds.
        kept, _ = holdout(count, 1 - taken / count, seed, presence)
        chosen = np.random.default_rng(seed).permutation(kept)[:taken]
        chosen.sort()
        if self.tuning is not None:
            return replace(self, tuning=self.tuning.take(chosen))
        assert self.split is not None
        train, validation = self.split
        return replace(self, split=(train, tuple(validation[i] for i in chosen)))

    def decisions(self) -> Decisions:
        """Return what is sent to the other ranks."""
        train, validation = self.split or (None, None)
        return Decisions(
            self.plan.to_dict(), self.label_map.to_dict(), train, validation, str(self.run_folder)
        )

    def with_decisions(self, decisions: Decisions) -> Prepared:
        """Return the same samples under the decisions of another rank."""
        split = None
        if decisions.train is not None and decisions.validation is not None:
            split = (decisions.train, decisions.validation)
        return replace(
            self,
            plan=Plan.from_dict(decisions.plan),
            label_map=LabelMap.from_dict(decisions.label_map),
            split=split,
            run_folder=Path(decisions.run_folder),
        )

    def write(self) -> None:
        """Create the run folder with ``plan.json`` and ``fingerprint.json``."""
        self.run_folder.mkdir(parents=True, exist_ok=True)
        self.plan.save(self.run_folder / "plan.json")
        found = self.fingerprint.to_dict() | {"hardware": asdict(self.hardware)}
        text = json.dumps(found, indent=2, ensure_ascii=False)
        write_text(self.run_folder / "fingerprint.json", text + "\n")

    def blank_model(self, network: Network, seed: int) -> TrainedModel:
        """Return a network together with what is saved beside it, without scores."""
        return TrainedModel(
            network=network,
            plan=self.plan,
            label_map=self.label_map,
            seed=seed,
            columns=self.columns,
        )


def prepare(
    train_data: Any,
    tuning_data: Any,
    *,
    problem_type: str,
    image: str,
    label: str,
    classes: Classes | None,
    ignore_index: RawValue | None,
    eval_metric: str | None,
    data_root: str | os.PathLike[str] | None,
    presets: str | Sequence[str],
    hyperparameters: Mapping[str, Any] | None,
    time_limit: float | None,
    holdout_frac: float,
    hardware: Hardware,
    seed: int,
    run_folder: Path,
    groups: Groups | None = None,
    plan: Plan | None = None,
    on_image: Callable[[int], None] | None = None,
    probe: Callable[..., Costs] | None = None,
) -> Prepared:
    """Read and check the tables, then decide; nothing is written and nothing is trained.

    Args:
        train_data: What :func:`easyseg.data.table.read_samples` takes, with labels.
        tuning_data: The same, or ``None``: ``holdout_frac`` of the training table is used.
        problem_type: ``"auto"``, ``"binary"`` or ``"multiclass"``.
        image: Name of the image column.
        label: Name of the label column.
        classes: Names of the raw values, or ``None``; see `infer_label_map`.
        ignore_index: Raw value that is ignored, or ``None``.
        eval_metric: Validation metric, or ``None`` for the default.
        data_root: Folder that relative paths start from.
        presets: ``"auto"``, the name of a preset or a domain, or several.
        hyperparameters: Dotted overrides.
        time_limit: Seconds, or ``None``.
        holdout_frac: Share of the validation part.
        hardware: The machine.
        seed: Seed of the split.
        run_folder: Where the fit will write.
        groups: Column of groups that no split tears apart, or a function from a row to its group.
        plan: A whole plan, instead of presets and hyperparameters.
        on_image: Called with the number of pairs that were just checked.
        probe: Measures what a first plan costs; the plan is then made anew with that in mind. It
            is called with a draft, and again with another one and the seconds ``spent`` before if
            the steps of the two differ.

    Raises:
        DataError: All problems of both tables at once.
        OptionError: Unknown presets, overrides or metrics; a plan that is for another problem.
    """
    if plan is not None:
        check_given(
            plan,
            presets=presets,
            hyperparameters=hyperparameters,
            problem_type=problem_type,
            eval_metric=eval_metric,
        )
        plan = with_absolute_weights_in(plan)
    hyperparameters = with_absolute_weights(hyperparameters or {})
    check_request(presets, hyperparameters)
    examined = examine(
        {"train": train_data, "tuning": tuning_data},
        image=image,
        label=label,
        classes=classes,
        ignore_index=ignore_index,
        # Two values may be classes like others, which those who made the plan had said.
        problem_type="multiclass" if plan and plan.problem_type == "multiclass" else problem_type,
        data_root=data_root,
        groups=groups,
        watch=lambda total: nullcontext(on_image or (lambda count: None)),
    )
    examined.refuse_errors()
    label_map = examined.label_map
    train, *others = examined.audited.tables
    likeness = find_likeness(train.facts)
    split, kept_together = None, ""
    if others:
        _refuse_shared_groups(train.samples, others[0].samples)
        train_facts, validation_facts = train.facts, others[0].facts
    else:
        grouping = find_grouping(
            train.samples.names, likeness, holdout_frac, train.samples.groups, _origin(groups)
        )
        kept_together = grouping.reason
        split = _split(train, label_map, grouping, holdout_frac, seed)
        train_facts = tuple(train.facts[i] for i in split[0])
        validation_facts = tuple(train.facts[i] for i in split[1])
    found = replace(
        fingerprint(train_facts, validation_facts, label_map),
        duplicates=likeness.num_copies,
        near_duplicates=likeness.num_alike,
        split=kept_together,
    )
    decided = partial(
        decide,
        found,
        hardware,
        problem_type=resolve_problem(plan.problem_type if plan else problem_type, label_map),
        num_classes=label_map.num_classes,
        presets=presets,
        overrides=hyperparameters,
        eval_metric=eval_metric,
        time_limit=time_limit,
        obtainable=() if plan else _obtainable(hardware, presets, hyperparameters),
        given=plan,
    )
    prepared = Prepared(
        train.samples,
        others[0].samples if others else None,
        split,
        label_map,
        found,
        decided(),
        run_folder,
        {"image": image, "label": label},
        hardware,
    )
    # Without a limit there is nothing to say of a fit that keeps frozen features: no step is timed.
    if probe is not None and not (prepared.plan.train.prefix_cache and time_limit is None):
        costs = probe(prepared)
        draft, prepared = prepared, replace(prepared, plan=decided(costs=costs), costs=costs)
        if _steps_differ(draft.plan, prepared.plan):
            costs = probe(prepared, spent=costs.took).completed(costs)
            prepared = replace(prepared, plan=decided(costs=costs), costs=costs)
    return prepared.validating_fewer(_presence(validation_facts, label_map), seed)


def _steps_differ(draft: Plan, plan: Plan) -> bool:
    """Return whether a step of a plan costs something else than one of its draft.

    The epochs that a limit pays for decide on augmentation (flips and turns take no time), and this
    on what is kept.
    """

    def costly(one: Plan) -> tuple[set[str], bool]:
        return {*one.data.augment} - VARIANTS.keys(), one.train.prefix_cache

    return costly(draft) != costly(plan)


def read_labelled(
    data: Any,
    label_map: LabelMap,
    *,
    image: str,
    label: str,
    data_root: str | os.PathLike[str] | None,
    groups: Groups | None = None,
) -> tuple[Samples, LabelMap]:
    """Read and check a table of images and labels against a label map that is already there.

    Returns:
        The samples, and the label map that reads them: it takes smeared masks for what they are.

    Raises:
        DataError: All problems of the table at once.
    """
    examined = examine_labelled(
        data, label_map, image=image, label=label, data_root=data_root, groups=groups
    )
    examined.refuse_errors()
    return examined.audited.train.samples, examined.label_map


def _obtainable(
    hardware: Hardware, presets: str | Sequence[str], hyperparameters: Mapping[str, Any]
) -> tuple[str, ...]:
    """Return the backbones whose weights are here or can be reached, if there is a choice.

    There is none on a CPU, nor where the user or a preset names one; random weights are always at
    hand.
    """
    base = parse_presets(presets).base  # domains name no backbone
    preset = "auto" if base == "auto" else load_preset(base)["plan"]["backbone"]["name"]
    named = hyperparameters.get("backbone.name", preset) != "auto"
    if hardware.accelerator == "cpu" or named:
        return ()
    if hyperparameters.get("backbone.weights") == "random":
        return list_backbones()
    return tuple(name for name in list_backbones() if is_obtainable(get_spec(name)))


def resolve_problem(problem_type: str, label_map: LabelMap) -> str:
    """Return ``"binary"`` or ``"multiclass"``: what is asked for, else what the classes make it."""
    if problem_type != "auto":
        return problem_type
    return "binary" if label_map.num_classes == 2 else "multiclass"


def _split(
    table: AuditTable, label_map: LabelMap, grouping: Grouping, frac: float, seed: int
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Hold out the validation part, and say what is particular about it."""
    count = len(table.samples)
    presence = _presence(table.facts, label_map)
    train, validation = holdout(count, frac, seed, presence, grouping.labels)
    log.info("validation part: %d of %d images; %s", len(validation), count, grouping.reason)
    share = len(validation) / count
    if not frac / _FAR <= share <= frac * _FAR and len(validation) > 1:
        log.warning(
            "the validation part holds %.0f %% of the images instead of %.0f %%: the groups are too"
            " large for more, or too small; tuning_data= chooses it by hand",
            100 * share,
            100 * frac,
        )
    unvalidated = presence[train].any(axis=0) & ~presence[validation].any(axis=0)
    for k in np.flatnonzero(unvalidated):
        holders = np.flatnonzero(presence[:, k])
        one = len({grouping.labels[i] for i in holders}) == 1
        log.warning(
            "class %r is in no image of the validation part%s: its quality is not measured",
            label_map.names[k],
            f" (its {len(holders)} images belong together and stay in training)" if one else "",
        )
    return tuple(map(int, train)), tuple(map(int, validation))


def _presence(facts: Sequence[ImageFacts], label_map: LabelMap) -> np.ndarray:
    """Return which classes each image holds, bool ``[N, K]``."""
    presence = np.zeros((len(facts), label_map.num_classes), bool)
    for row, fact in zip(presence, facts, strict=True):
        ids = label_map.encode(np.array([*(fact.mask_counts or ())], np.int64))
        row[ids[ids != IGNORE]] = True
    return presence


def _origin(groups: Groups | None) -> str:
    return "by the function groups=" if callable(groups) else f"of the column {groups!r}"


def _refuse_shared_groups(train: Samples, tuning: Samples) -> None:
    shared = sorted(set(train.groups or ()) & set(tuning.groups or ()), key=str)
    if shared:
        raise DataError(
            f"{len(shared)} of the groups are in the training and in the tuning data, such as"
            f" {', '.join(map(repr, shared[:3]))}: scores on the tuning data would flatter; put all"
            " images of a group into one of the tables, or leave groups= out"
        )
