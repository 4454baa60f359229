"""From the user's table to all that training needs: samples, label map, fingerprint, plan."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from easyseg.artifact import TrainedModel
from easyseg.auditing.fingerprint import Fingerprint, fingerprint
from easyseg.auditing.scan import ImageFacts, check_values, mask_values, scan
from easyseg.data.label_map import LabelMap, infer_label_map
from easyseg.data.split import holdout
from easyseg.data.table import Samples, read_samples
from easyseg.errors import DataError
from easyseg.files import write_text
from easyseg.models.network import Network
from easyseg.models.registry import get_spec, list_backbones
from easyseg.models.weights import is_obtainable
from easyseg.plan.costs import Costs
from easyseg.plan.decisions import check_request, decide
from easyseg.plan.domains import flatten
from easyseg.plan.hardware import Hardware
from easyseg.plan.plan import Plan
from easyseg.plan.presets import load_preset, parse_presets

__all__ = ["Decisions", "Prepared", "prepare", "read_labelled"]


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
    classes: Mapping[int, str] | Sequence[str] | None,
    ignore_index: int | None,
    eval_metric: str | None,
    data_root: str | os.PathLike[str] | None,
    presets: str | Sequence[str],
    hyperparameters: Mapping[str, Any] | None,
    time_limit: float | None,
    holdout_frac: float,
    hardware: Hardware,
    seed: int,
    run_folder: Path,
    on_image: Callable[[int], None] | None = None,
    probe: Callable[[Prepared], Costs] | None = None,
) -> Prepared:
    """Read and check the tables, then decide; nothing is written and nothing is trained.

    Args:
        train_data: What :func:`easyseg.data.table.read_samples` takes, with labels.
        tuning_data: The same, or ``None``: ``holdout_frac`` of the training table is used.
        problem_type: ``"auto"``, ``"binary"`` or ``"multiclass"``.
        image: Name of the image column.
        label: Name of the label column.
        classes: Names of the raw values, or ``None``.
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
        on_image: Called with the number of pairs that were just checked.
        probe: Measures what a first plan costs; the plan is then made anew with that in mind.

    Raises:
        DataError: All problems of both tables at once.
        OptionError: Unknown presets, overrides or metrics.
    """
    hyperparameters = _with_absolute_weights(hyperparameters or {})
    check_request(presets, hyperparameters)
    reader = _TableReader(image, label, data_root, on_image)
    problems: list[str] = []
    train = reader.read(train_data, problems)
    tuning = None if tuning_data is None else reader.read(tuning_data, problems)
    if train is None or problems:
        raise DataError(problems)
    values, dtype = mask_values(*train)
    label_map = infer_label_map(
        values, dtype, problem_type=problem_type, classes=classes, ignore_index=ignore_index
    )
    samples, facts = train
    split = None
    if tuning is not None:
        check_values(*tuning, label_map)
        train_facts, validation_facts = facts, tuning[1]
    else:
        parts = holdout(len(samples), holdout_frac, seed, _strata(facts, label_map))
        split = (tuple(map(int, parts[0])), tuple(map(int, parts[1])))
        train_facts = tuple(facts[i] for i in split[0])
        validation_facts = tuple(facts[i] for i in split[1])
    found = fingerprint(train_facts, validation_facts, label_map)
    decided = partial(
        decide,
        found,
        hardware,
        problem_type=_resolve_problem(problem_type, label_map),
        num_classes=label_map.num_classes,
        presets=presets,
        overrides=hyperparameters,
        eval_metric=eval_metric,
        time_limit=time_limit,
        obtainable=_obtainable(hardware, presets, hyperparameters),
    )
    prepared = Prepared(
        samples,
        None if tuning is None else tuning[0],
        split,
        label_map,
        found,
        decided(),
        run_folder,
        {"image": image, "label": label},
        hardware,
    )
    if probe is None:
        return prepared
    costs = probe(prepared)
    return replace(prepared, plan=decided(costs=costs), costs=costs)


def _with_absolute_weights(hyperparameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return overrides whose weights file is found from any folder: the model keeps its path."""
    values, key = flatten(hyperparameters), "backbone.weights"
    given = values.get(key)
    if isinstance(given, (str, os.PathLike)) and given not in ("pretrained", "random", "auto", ""):
        values[key] = os.path.abspath(os.path.expanduser(given))  # noqa: PTH100, PTH111
    return values


@dataclass(frozen=True)
class _TableReader:
    """Reads and scans tables; gathers their problems instead of stopping at the first one."""

    image: str
    label: str
    data_root: str | os.PathLike[str] | None
    on_image: Callable[[int], None] | None

    def read(self, data: Any, problems: list[str]) -> tuple[Samples, tuple[ImageFacts, ...]] | None:
        try:
            samples = read_samples(
                data,
                image=self.image,
                label=self.label,
                data_root=self.data_root,
                problems=problems,
            )
            return samples, scan(samples, progress=self._tick)
        except DataError as error:
            problems.extend(error.problems)
            return None

    def _tick(self, done: int) -> None:
        if self.on_image is not None:
            self.on_image(1)


def read_labelled(
    data: Any,
    label_map: LabelMap,
    *,
    image: str,
    label: str,
    data_root: str | os.PathLike[str] | None,
) -> Samples:
    """Read and check a table of images and labels against a label map that is already there.

    Raises:
        DataError: All problems of the table at once.
    """
    samples = read_samples(data, image=image, label=label, data_root=data_root)
    check_values(samples, scan(samples), label_map)
    return samples


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


def _resolve_problem(problem_type: str, label_map: LabelMap) -> str:
    if problem_type != "auto":
        return problem_type
    return "binary" if label_map.num_classes == 2 else "multiclass"


def _strata(facts: Sequence[ImageFacts], label_map: LabelMap) -> list[int]:
    """Say of each image whether it holds any class but the first one."""
    background = {label_map.values[0], label_map.ignore}
    return [int(bool(set(f.mask_counts or {}) - background)) for f in facts]
