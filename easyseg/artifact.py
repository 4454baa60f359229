"""The saved model: trained tensors as safetensors, the rest as JSON, a model card. No pickle."""

from __future__ import annotations

import json
import math
import os
import platform
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from easyseg.data.dataset import Preprocess
from easyseg.data.geometry import Geometry
from easyseg.data.label_map import LabelMap
from easyseg.errors import ArtifactError, EasySegError
from easyseg.models.network import (
    Network,
    build_network,
    load_trainable_state,
    trainable_state,
)
from easyseg.models.registry import get_spec
from easyseg.plan.adapter_kinds import KINDS
from easyseg.plan.plan import Plan

__all__ = [
    "Description",
    "TrainedModel",
    "describe_artifact",
    "find_artifact",
    "preprocess_of",
    "read_artifact",
    "write_artifact",
]

FORMAT = 4
_TENSORS = "model.safetensors"
_ABOUT = "segmentor.json"
_CARD = "README.md"
_FILES = {_TENSORS, _ABOUT, _CARD}
_PACKAGES = ("easyseg", "torch", "torchvision", "segment-anything", "lightning", "numpy")


@dataclass(frozen=True, kw_only=True)
class Description:
    """What is saved beside the tensors.

    Attributes:
        plan: The plan that the network is built from.
        label_map: Raw mask values and class ids.
        seed: Seed that the fresh parts of the network are built with.
        metrics: Validation scores of the saved epoch.
        columns: Names of the image and the label column.
    """

    plan: Plan
    label_map: LabelMap
    seed: int
    metrics: Mapping[str, float] = field(default_factory=dict)
    columns: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class TrainedModel(Description):
    """What prediction needs, and what is saved.

    Attributes:
        network: The network with its trained tensors.
    """

    network: Network


def preprocess_of(plan: Plan) -> Preprocess:
    """Return how images enter the network of a plan."""
    size = (plan.data.size, plan.data.size)
    normalization = get_spec(plan.backbone.name).normalization
    return Preprocess(Geometry(plan.data.geometry, size, plan.data.scale), normalization)


def write_artifact(model: TrainedModel, path: str | os.PathLike[str]) -> Path:
    """Write a model as a folder, atomically: the old one stays until the new one is whole.

    Args:
        model: The model.
        path: The folder; it may hold an earlier artifact and nothing else, which is replaced.

    Returns:
        The folder.

    Raises:
        ArtifactError: If the folder holds anything else, or cannot be written.
    """
    path = Path(path)
    if path.exists() and not _is_replaceable(path):
        hint = "choose another folder"
        if _is_artifact(path / "model"):
            hint = f"it is a run folder, whose model is in {path / 'model'}; {hint}"
        raise ArtifactError(
            f"{path} exists and is not a saved model alone; nothing was written: {hint}"
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    except OSError as error:
        raise ArtifactError(f"{path} cannot be written: {error}") from error
    try:
        state = {k: v.cpu().contiguous() for k, v in trainable_state(model.network).items()}
        save_file(state, beside / _TENSORS)
        (beside / _TENSORS).chmod(0o644)  # It is written for the owner alone.
        about = _about(model)
        text = json.dumps(about, indent=2, ensure_ascii=False, allow_nan=False)
        (beside / _ABOUT).write_text(text + "\n", encoding="utf-8")
        (beside / _CARD).write_text(_card(about, state), encoding="utf-8")
        beside.chmod(0o755)
        _swap(beside, path)
    except OSError as error:
        raise ArtifactError(f"{path} cannot be written: {error}") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return path


def _swap(new: Path, path: Path) -> None:
    """Put a folder into the place of another; ``os.replace`` refuses a folder that is not empty."""
    if not path.exists():
        new.rename(path)
        return
    old = path.with_name(f".{path.name}-old-{os.getpid()}")
    try:
        path.rename(old)
        new.rename(path)
    except BaseException:  # Ctrl-C among them.
        if not path.exists():
            old.rename(path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _is_replaceable(path: Path) -> bool:
    """Say whether a path is an empty folder, or an artifact with nothing else beside it."""
    if not path.is_dir():
        return False
    names = {p.name for p in path.iterdir()}
    return not names or (_is_artifact(path) and names <= _FILES)


def _is_artifact(path: Path) -> bool:
    return (path / _ABOUT).is_file()


def find_artifact(path: str | os.PathLike[str]) -> Path:
    """Return the artifact that a path means: itself, or ``model/`` of a run folder.

    Raises:
        ArtifactError: If there is none.
    """
    path = Path(path).expanduser()
    for candidate in (path, path / "model"):
        if _is_artifact(candidate):
            return candidate
    found = "there is no such folder" if not path.exists() else f"it holds no {_ABOUT}"
    raise ArtifactError(
        f"{path} is no saved model: {found}; give the run folder or the folder that save() wrote"
    )


def read_artifact(path: str | os.PathLike[str]) -> TrainedModel:
    """Read a model: runs no code from the folder.

    Args:
        path: A run folder or an artifact.

    Returns:
        The model on the CPU, in evaluation mode.

    Raises:
        ArtifactError: If a file is missing, damaged, from a newer format, or the pretrained weights
            here are not the ones it was trained on.
        WeightsError: If the pretrained weights are not on this machine.
    """
    folder = find_artifact(path)
    about, expected = _read_description(folder)
    plan = about.plan
    network = build_network(plan, seed=about.seed, base_sha256=expected)
    if network.base_sha256 != expected:
        raise ArtifactError(
            f"{folder}: trained on weights of {plan.backbone.name} with sha256 {expected}, but the "
            f"ones found here have {network.base_sha256}; provide the right file (EASYSEG_WEIGHTS)"
        )
    load_trainable_state(network, _read_tensors(folder / _TENSORS))
    return TrainedModel(network=network.eval(), **vars(about))


def describe_artifact(path: str | os.PathLike[str]) -> Description:
    """Read what is saved beside the tensors; asks for no weights.

    Args:
        path: A run folder or an artifact.

    Raises:
        ArtifactError: If the file is missing, damaged, or from a newer format.
    """
    return _read_description(find_artifact(path))[0]


def _read_description(folder: Path) -> tuple[Description, str]:
    """Return what is saved beside the tensors, and the hash of the pretrained weights."""
    about = _read_about(folder)
    try:
        scores = dict(about["metrics"])
        description = Description(
            plan=Plan.from_dict(about["plan"]),
            label_map=LabelMap.from_dict(about["label_map"]),
            seed=int(about["seed"]),
            metrics={k: float("nan") if v is None else float(v) for k, v in scores.items()},
            columns=dict(about["columns"]),
        )
        return description, str(about["backbone"]["sha256"])
    except (KeyError, TypeError, ValueError, AttributeError, EasySegError) as error:
        raise ArtifactError(
            f"{folder / _ABOUT} is damaged: {error!r}; save the model again"
        ) from error


def _read_about(folder: Path) -> dict[str, Any]:
    file = folder / _ABOUT
    try:
        about = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{file} cannot be read: {error}; save the model again") from error
    found = about.get("format") if isinstance(about, dict) else None
    if found != FORMAT:
        raise ArtifactError(
            f"{file} has format {found!r}, this version of easyseg reads {FORMAT}: load it with "
            "the version of easyseg that wrote it, or fit again"
        )
    return about


def _read_tensors(file: Path) -> dict[str, Tensor]:
    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise ArtifactError(f"{file} cannot be read: {error}; save the model again") from error


def _about(model: TrainedModel) -> dict[str, Any]:
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {
        "format": FORMAT,
        "plan": model.plan.to_dict(),
        "label_map": model.label_map.to_dict(),
        "backbone": {"name": model.plan.backbone.name, "sha256": model.network.base_sha256},
        "seed": model.seed,
        # JSON knows no NaN.
        "metrics": {k: None if math.isnan(v) else float(v) for k, v in model.metrics.items()},
        "columns": dict(model.columns),
        "versions": versions,
    }


def validation_part(most: int) -> str:
    """Return what validation scores are of, in words.

    Args:
        most: ``train.validation_images`` of the plan.
    """
    whole = "the validation part"
    return whole if most < 0 else f"at most {most} of the images of {whole}"


def _card(about: Mapping[str, Any], state: Mapping[str, Tensor]) -> str:
    """Return the model card in Markdown."""
    plan, label_map = about["plan"], LabelMap.from_dict(about["label_map"])
    spec = get_spec(about["backbone"]["name"])
    classes = "\n".join(
        f"| {label_map.shown(value)} | {name} |"
        for value, name in zip(label_map.values, label_map.names, strict=True)
    )
    scores = "\n".join(
        f"| {key} | {'none' if value is None else f'{value:.4f}'} |"
        for key, value in about["metrics"].items()
    )
    count = sum(v.numel() for v in state.values())
    size = sum(v.numel() * v.element_size() for v in state.values()) / 1e6
    backbone, adapter, data = plan["backbone"], plan["adapter"], plan["data"]
    rank = f", rank {adapter['rank']}" if "rank" in KINDS[adapter["kind"]].uses else ""
    part = validation_part(plan["train"]["validation_images"])
    return f"""# A segmentation model made with easyseg {about["versions"].get("easyseg", "")}

`SemanticSegmentor.load("FOLDER")` or `easyseg predict FOLDER images/ --output-dir predicted/`

- task: {plan["problem_type"]}, {plan["num_classes"]} classes
- base: {spec.name} ({spec.license}), weights `{backbone["weights"]}`
- sha256 of the base: `{about["backbone"]["sha256"]}`
- adapter: {adapter["kind"]}{rank}; input {data["size"]} px, {data["geometry"]}
- {count:,} trained parameters in `{_TENSORS}` ({size:.1f} MB); the base is not included

| raw mask value | class |
|---|---|
{classes}

Pixels ignored in training: {label_map.shown(label_map.ignore)}.

Scores on {part} (images the best epoch was chosen by, so slightly optimistic):

| metric | value |
|---|---|
{scores}

All decisions and their reasons are in `{_ABOUT}`, key `plan`.
"""
