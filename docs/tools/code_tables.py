"""Tables of what the code knows: presets, domains, keys, backbones, metrics, data sets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from markdown_tables import table

from easyseg.datasets import get_spec as dataset_spec
from easyseg.datasets import list_datasets
from easyseg.metrics.catalogue import METRICS, report_keys
from easyseg.metrics.paper import paper_metrics
from easyseg.models.registry import BackboneSpec, get_spec, list_backbones
from easyseg.plan.adapter_kinds import KINDS
from easyseg.plan.choices import CHOICES
from easyseg.plan.domains import DOMAINS, flatten
from easyseg.plan.plan import in_words
from easyseg.plan.presets import (
    SYMMETRIES,
    list_domains,
    list_presets,
    load_domain,
    load_preset,
    presets_folder,
)
from easyseg.study.reading import list_studies, read_study

CHOSEN_PRESETS = ("fast", "balanced", "best")


def code(words: object) -> str:
    """Return words as code."""
    return f"`{words}`"


def preset_budgets() -> str:
    """Return what the presets that `auto` chooses among may spend."""
    rows = []
    for name in CHOSEN_PRESETS:
        preset = load_preset(name)
        for machine, words in (("cpu", "CPU"), ("gpu", "GPU")):
            budget = preset["budget"][machine]
            length = f"{budget['epochs']} epochs" if "epochs" in budget else _samples(budget)
            rows.append(
                (
                    f"{code(name)}, {words}",
                    budget["rank"],
                    budget["experts"],
                    f"{100 * budget['size_share']:g} %",
                    f"{100 * budget['thin_share']:g} %",
                    budget["batch_size"],
                    length,
                    budget["patience"],
                    ", ".join(map(code, budget.get("backbones", ["lite_medsam"]))),
                )
            )
    head = (
        "preset, machine",
        "rank",
        "experts",
        "input side",
        "input side, thin objects",
        "batch",
        "length",
        "patience",
        "backbones",
    )
    return table(head, rows)


def _samples(budget: Mapping[str, Any]) -> str:
    return f"{budget['samples']} images, {budget['min_epochs']} to {budget['max_epochs']} epochs"


def preset_files() -> str:
    """Return every file of a whole preset as it is: its comments say where each number is from."""
    parts = []
    for name in (*CHOSEN_PRESETS, *(n for n in list_presets() if n not in CHOSEN_PRESETS)):
        text = (presets_folder() / f"{name}.yaml").read_text(encoding="utf-8")
        about = load_preset(name)["about"]
        parts.append(f"### `{name}`\n\n{_sentence(about)}\n\n```yaml\n{text}```")
    return "\n\n".join(parts)


def _sentence(words: str) -> str:
    return f"{words[0].upper()}{words[1:]}."


def domains() -> str:
    """Return what each domain adds, and why."""
    rows = []
    for name in list_domains():
        domain = load_domain(name)
        rows.append((code(name), domain["about"], "<br>".join(_changes(domain))))
    return table(("domain", "images of", "what it adds"), rows)


def _changes(domain: Mapping[str, Any]) -> Iterator[str]:
    because = domain["because"]
    if domain["symmetries"] is not None:
        turns = ", ".join(map(code, SYMMETRIES[domain["symmetries"]])) or "no flips or turns"
        yield f"{turns}: {because['symmetries']}"
    if domain["metric"] is not None:
        yield f"`metric` {code(domain['metric'])}: {because['metric']}"
    for where, layer in (("", domain["plan"]), *domain["variants"].items()):
        for key, value in flatten(layer).items():
            when = f" ({where})" if where else ""
            yield f"{code(key)} {code(in_words(value))}{when}: {because[key]}"
    if domain["paper"]:
        yield f'`metrics="paper"`: {", ".join(map(code, domain["paper"]))}'


def plan_keys() -> str:
    """Return each key of a plan, what it may hold, and who decides when you say nothing."""
    preset = flatten(load_preset("balanced")["plan"])
    rows = [(code(key), _values(key), _decided(key, preset[key])) for key in DOMAINS]
    return table(("key", "values", "in the preset `balanced`"), rows)


def _values(key: str) -> str:
    """Return what a key may hold; of the input size, what the backbones ask for."""
    if key != "data.size":
        return DOMAINS[key].text
    specs = _backbones()
    smallest = min(spec.min_size for spec in specs)
    multiples = sorted({spec.size_multiple for spec in specs})
    return (
        f"a whole number from {smallest}; a multiple of {' or '.join(map(str, multiples))}, "
        "by the backbone"
    )


def _decided(key: str, value: Any) -> str:
    if value == "auto":
        assert key in CHOICES
        return f"[a rule](#{key.replace('.', '')})"
    shown = tuple(value) if isinstance(value, list) else value
    return code(in_words(shown))


def _backbones() -> list[BackboneSpec]:
    """Return the backbones, without those that tests have added."""
    return [spec for spec in map(get_spec, list_backbones()) if spec.sha256 is not None]


def kinds() -> str:
    """Return the ways to adapt an encoder."""
    rows = []
    for name, kind in KINDS.items():
        families = "all" if len(kind.families) > 1 else "SAM's ViTs"
        uses = ", ".join(code(f"adapter.{key}") for key in kind.uses)
        rows.append((code(name), kind.about, uses or "nothing", families))
    return table(("`adapter.kind`", "what is trained", "keys that say more", "backbones"), rows)


def backbones() -> str:
    """Return the backbones."""
    rows = []
    for spec in _backbones():
        origin = "installed with easyseg" if spec.package else "downloaded, or from your file"
        rows.append(
            (
                code(spec.name),
                code(spec.filename),
                f"{spec.default_size} px",
                f"from {spec.min_size}, multiples of {spec.size_multiple}",
                spec.num_blocks,
                spec.license,
                origin,
            )
        )
    head = ("backbone", "file", "trained at", "`data.size`", "blocks", "licence", "weights")
    return table(head, rows)


def metric_table() -> str:
    """Return which metric there is in which averaging, and which way is better."""
    rows = []
    for name, metric in METRICS.items():
        rows.append(
            (
                f"[{code(name)}](#{name.replace('.', '')})",
                metric.about,
                ", ".join(code(f"@{each}") for each in metric.binary),
                ", ".join(code(f"@{_averaging(each)}") for each in metric.multiclass) or "none",
                "lower" if metric.error else "higher",
                "probabilities" if metric.of_map else "masks",
            )
        )
    head = ("metric", "in short", "binary", "several classes", "better", "scores")
    names = ("background", "foreground")
    report = ", ".join(map(code, report_keys(True, names)))
    several = ", ".join(map(code, report_keys(False, ("soil", "crop"))))
    paper = ", ".join(map(code, paper_metrics("auto", True)))
    many = ", ".join(map(code, paper_metrics("auto", False)))
    return (
        table(head, rows)
        + f"\n\nIf you name no metric, `evaluate` reports, binary: {report}; several classes (here "
        f"named soil and crop): {several}. The set `paper`, without a domain, is {paper}; for "
        f"several classes {many}."
    )


def _averaging(name: str) -> str:
    return "dataset/CLASS" if name == "class" else name


def datasets() -> str:
    """Return the public data sets."""
    rows = []
    for name in list_datasets():
        spec = dataset_spec(name)
        rows.append(
            (
                code(name),
                spec.about,
                code(spec.metric),
                code(spec.domain) if spec.domain else "none",
                "address known" if spec.sources else "by hand",
                spec.licence,
            )
        )
    return table(("name", "what", "metric", "domain", "download", "licence, as far as known"), rows)


def studies() -> str:
    """Return the studies that come with easyseg."""
    rows = [(code(name), read_study(name).about) for name in list_studies()]
    return table(("study", "what it compares"), rows)
