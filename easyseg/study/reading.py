"""Read a study from YAML: all that is wrong with the file is said at once.

.. code-block:: yaml

    about: what is compared
    presets: fast                       # of all fits; default: auto
    settings: {train.batch_size: 2}     # values of the plan of all fits
    budget: {samples: 200}              # or epochs, or seconds: what each fit may spend
    metrics: [iou@image]                # test scores that tables show
    sets:
      leaves: {}                        # title, settings, eval_metric, metrics, budget of its own
    methods:
      lora: {title: LoRA, settings: {adapter.kind: lora}}
    tuning:                             # optional: picked for each method, by the validation score
      {key: optim.lr, values: [1.0e-4, 1.0e-3], set: leaves, seed: 0}
    parts:
      methods:                          # all methods, or those of `methods: [...]`
        {title: Methods, sets: {leaves: [0, 1, 2]}, baseline: lora, experts: true}
      ranks:                            # one method and changes to it
        title: Ranks
        method: lora
        variants: {"2": {adapter.rank: 2}, "8": {adapter.rank: 8}}
        sets: {leaves: [0, 1]}
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from easyseg.errors import EasySegError, OptionError, nearest
from easyseg.metrics.catalogue import metric_keys
from easyseg.models.registry import get_spec
from easyseg.plan.domains import DOMAINS, flatten, parse
from easyseg.plan.presets import parse_presets, presets_folder
from easyseg.study.cells import places, settings_of
from easyseg.study.spec import (
    BUDGETS,
    Budget,
    Method,
    Part,
    Row,
    Settings,
    Study,
    StudySet,
    Tuning,
)

__all__ = ["list_studies", "parse_study", "read_study"]

_TOP = ("about", "presets", "settings", "budget", "metrics", "sets", "methods", "tuning", "parts")
_NEEDED = ("budget", "metrics", "sets", "methods", "parts")
_SET = ("title", "settings", "eval_metric", "metrics", "budget")
_METHOD = ("title", "settings")
_TUNING = ("key", "values", "set", "seed")
_FROM_BUDGET = ("train.epochs", "train.max_steps")
_NO_FILE_NAME = re.compile(r'[<>:"/\\|?*\x00-\x1f]|^[. ]|[. ]$|^$')
_PART = ("title", "sets", "methods", "method", "variants", "baseline", "experts")


def list_studies() -> tuple[str, ...]:
    """Return the names of the studies that come with easyseg, sorted.

    Example:
        >>> list_studies()
        ('paper', 'small')
    """
    return tuple(sorted(file.stem for file in presets_folder().glob("studies/*.yaml")))


def read_study(spec: str | Path) -> Study:
    """Read a study.

    Args:
        spec: A YAML file, or the name of a study that comes with easyseg.

    Raises:
        OptionError: If there is no such file or study, or it cannot be understood; all problems at
            once.

    Example:
        >>> read_study("small").tuning.key
        'optim.lr'
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError  # type: ignore[import-untyped, unused-ignore]

    file = Path(spec).expanduser()
    if str(spec) in list_studies() and not file.is_file():
        file = presets_folder() / "studies" / f"{spec}.yaml"
    if not file.is_file():
        raise OptionError(
            f"study {str(spec)!r}: neither a file nor a study that comes with easyseg. "
            f"{nearest(str(spec), list_studies())}"
        )
    try:
        content = OmegaConf.to_container(OmegaConf.load(file), resolve=True)
    except (OmegaConfBaseException, YAMLError, UnicodeDecodeError) as error:
        raise OptionError(f"{file} cannot be read as YAML: {error}") from error
    return parse_study(content, name=file.stem, where=str(file))


def parse_study(content: Any, *, name: str, where: str = "study") -> Study:
    """Make a study of what a file holds.

    Args:
        content: Plain Python values.
        name: Name of the study.
        where: What they come from, for the error message.

    Raises:
        OptionError: If they make no study; all problems at once.
    """
    reader = _Reader()
    study = reader.study(content, name)
    if study is None or reader.problems:
        lines = "".join(f"\n  - {problem}" for problem in reader.problems)
        raise OptionError(f"{where} is no study that can be run:{lines}")
    return study


class _Reader:
    """Reads what it can, and gathers what is wrong."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def study(self, content: Any, name: str) -> Study | None:
        if not isinstance(content, Mapping):
            self.problems.append(f"expected a mapping with {', '.join(_TOP)}, found {content!r}")
            return None
        self._keys("the study", content, _TOP)
        missing = [key for key in _NEEDED if not content.get(key)]
        if missing:
            self.problems.append(f"nothing under {', '.join(missing)}")
            return None
        presets = content.get("presets", "auto")
        names = self._try(lambda: parse_presets(presets))
        settings = self._settings("settings", content.get("settings"))
        sets = self._sets(content)
        methods = {
            key: self._method(f"methods.{key}", key, value)
            for key, value in self._mapping("methods", content["methods"]).items()
        }
        tuning = self._tuning(content.get("tuning"), sets)
        parts = tuple(
            part
            for key, value in self._mapping("parts", content["parts"]).items()
            if (part := self._part(f"parts.{key}", key, value, sets, methods)) is not None
        )
        asked = () if names is None else (names.base, *names.domains)
        about = str(content.get("about", name))
        study = Study(name, about, asked, settings, sets, methods, tuning, parts)
        if not self.problems:
            self._check_batches(study)
        return study

    def _sets(self, content: Mapping[str, Any]) -> dict[str, StudySet]:
        budget = self._budget("budget", content["budget"])
        metrics = self._metrics("metrics", content["metrics"])
        sets = {}
        for key, value in self._mapping("sets", content["sets"]).items():
            where = f"sets.{key}"
            self._file_name(where, key)
            own = self._mapping(where, value)
            self._keys(where, own, _SET)
            asked = own.get("eval_metric")
            sets[key] = StudySet(
                key,
                str(own.get("title", key)),
                self._settings(f"{where}.settings", own.get("settings")),
                None if asked is None else next(iter(self._metrics(where, asked)), None),
                self._metrics(f"{where}.metrics", own["metrics"]) if "metrics" in own else metrics,
                self._budget(f"{where}.budget", own["budget"]) if "budget" in own else budget,
            )
        return sets

    def _method(self, where: str, key: str, value: Any) -> Method:
        own = self._mapping(where, value)
        self._keys(where, own, _METHOD)
        settings = self._settings(f"{where}.settings", own.get("settings"))
        return Method(key, str(own.get("title", key)), settings)

    def _tuning(self, value: Any, sets: Collection[str]) -> Tuning | None:
        if value is None:
            return None
        own = self._mapping("tuning", value)
        self._keys("tuning", own, _TUNING)
        key, values = own.get("key"), own.get("values")
        is_list = isinstance(values, Sequence) and not isinstance(values, str)
        if not isinstance(key, str) or not is_list or not values:
            self.problems.append(
                "tuning: expected a key such as optim.lr, and a list of values to try; found "
                f"{key!r} and {values!r}"
            )
            return None
        found = [self._settings("tuning", {key: value}).get(key) for value in values]
        self._known("tuning.set", own.get("set"), sets)
        seed = self._seeds("tuning.seed", [own.get("seed", 0)])
        return Tuning(key, tuple(found), str(own.get("set")), *(seed or (0,)))

    def _part(
        self,
        where: str,
        key: str,
        value: Any,
        sets: Collection[str],
        methods: Mapping[str, Method],
    ) -> Part | None:
        self._file_name(where, key)
        own = self._mapping(where, value)
        self._keys(where, own, _PART)
        rows = self._variants(where, own, methods) if "variants" in own else None
        if rows is None:
            rows = self._chosen(where, own, methods)
        seeds = {}
        for name, numbers in self._mapping(f"{where}.sets", own.get("sets")).items():
            self._known(f"{where}.sets", name, sets)
            seeds[name] = self._seeds(f"{where}.sets.{name}", numbers)
        if not seeds:
            self.problems.append(f"{where}.sets: expected seeds by set, as in {{leaves: [0, 1]}}")
        baseline = own.get("baseline")
        if baseline is not None:
            baseline = str(baseline)
            self._known(f"{where}.baseline", baseline, [row.name for row in rows])
        experts = own.get("experts", False)
        if not isinstance(experts, bool):
            self.problems.append(f"{where}.experts: expected true or false, found {experts!r}")
        return Part(key, str(own.get("title", key)), rows, seeds, baseline, experts is True)

    def _variants(
        self, where: str, own: Mapping[str, Any], methods: Mapping[str, Method]
    ) -> tuple[Row, ...]:
        """Read one method and changes to it."""
        if "methods" in own:
            self.problems.append(f"{where}: methods, or one method with variants; not both")
        name = str(own.get("method"))
        self._known(f"{where}.method", name, methods)
        method = methods.get(name)
        if method is None:
            return ()
        return tuple(
            Row(key, key, method, self._settings(f"{where}.variants.{key}", changes))
            for key, changes in self._mapping(f"{where}.variants", own["variants"]).items()
        )

    def _chosen(
        self, where: str, own: Mapping[str, Any], methods: Mapping[str, Method]
    ) -> tuple[Row, ...]:
        """Read which methods are compared."""
        if "method" in own:
            self.problems.append(f"{where}: a method without variants; several are methods: [...]")
        names = self._words(f"{where}.methods", own["methods"]) if "methods" in own else methods
        for name in names:
            self._known(f"{where}.methods", name, methods)
        chosen = [methods[name] for name in names if name in methods]
        return tuple(Row(method.name, method.title, method, {}) for method in chosen)

    def _budget(self, where: str, value: Any) -> Budget:
        own = self._mapping(where, value)
        kind, amount = next(iter(own.items()), ("", 0))
        number = isinstance(amount, (int, float)) and not isinstance(amount, bool) and amount > 0
        if not (
            len(own) == 1
            and kind in BUDGETS
            and number
            and (kind == "seconds" or amount == int(amount))
        ):
            self.problems.append(
                f"{where}: expected one of {', '.join(BUDGETS)} and how many, as in "
                f"{{samples: 200}}, found {value!r}"
            )
            return Budget("seconds", 1.0)
        return Budget(kind, float(amount) if kind == "seconds" else int(amount))

    def _settings(self, where: str, value: Any) -> Settings:
        """Read values of the plan; ``auto`` stays a word."""
        flat = self._try(lambda: flatten(self._mapping(where, value), where=where)) or {}
        settings = {}
        for key, given in flat.items():
            if key in _FROM_BUDGET:
                self.problems.append(f"{where}: {key} follows from the budget, leave it out")
            elif given == "auto" and key in DOMAINS:
                settings[key] = given
            else:
                settings[key] = self._try(partial(parse, key, given, where=where))
        name = settings.get("backbone.name", "auto")
        if name not in ("auto", None):
            self._try(lambda: get_spec(name))
        return settings

    def _check_batches(self, study: Study) -> None:
        """A number of samples is a number of steps only where the batch is known."""
        open_batches = {
            place.label
            for place in places(study)
            if place.set.budget.kind == "samples"
            and settings_of(study, place, {}).get("train.batch_size", "auto") == "auto"
        }
        if open_batches:
            self.problems.append(
                "a budget of samples needs a number for train.batch_size in the settings; "
                f"{len(open_batches)} places have none, such as {min(open_batches)}"
            )

    def _seeds(self, where: str, value: Any) -> tuple[int, ...]:
        numbers = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
        right = [isinstance(n, int) and not isinstance(n, bool) and 0 <= n < 2**32 for n in numbers]
        if not right or not all(right) or len(set(numbers)) < len(numbers):
            self.problems.append(
                f"{where}: expected different whole numbers from 0 on, found {value!r}"
            )
            return ()
        return tuple(numbers)

    def _words(self, where: str, value: Any) -> tuple[str, ...]:
        words = [value] if isinstance(value, str) else value
        if not isinstance(words, Sequence) or not words:
            self.problems.append(f"{where}: expected a list of names, found {value!r}")
            return ()
        return tuple(map(str, words))

    def _metrics(self, where: str, value: Any) -> tuple[str, ...]:
        """Read keys of metrics; whether there are such classes, only the data tell."""
        known = {*metric_keys(True, ()), *metric_keys(False, ())}
        keys = self._words(where, value)
        for key in keys:
            if "/" not in key:
                self._known(where, key, known)
        return keys

    def _mapping(self, where: str, value: Any) -> dict[str, Any]:
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            self.problems.append(f"{where}: expected a mapping, found {value!r}")
            return {}
        return {str(key): each for key, each in value.items()}

    def _file_name(self, where: str, name: str) -> None:
        """Refuse what cannot stand in the name of a file on some system."""
        if _NO_FILE_NAME.search(name):
            self.problems.append(
                f"{where}: {name!r} is part of the names of files; expected one without any of "
                '< > : " / \\ | ? * that neither starts nor ends with a dot or a space; its '
                "title may hold them"
            )

    def _keys(self, where: str, found: Mapping[str, Any], known: Sequence[str]) -> None:
        self.problems.extend(
            f"{where}: unknown key {key!r}. {nearest(str(key), known)}"
            for key in found
            if key not in known
        )

    def _known(self, where: str, name: Any, known: Collection[str]) -> None:
        if name not in known:
            self.problems.append(f"{where}: {name!r} is not known. {nearest(str(name), known)}")

    def _try(self, read: Callable[[], Any]) -> Any:
        try:
            return read()
        except EasySegError as error:
            self.problems.append(str(error))
            return None
