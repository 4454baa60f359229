"""SemanticSegmentor: the facade over the stages. Heavy libraries are imported when used."""

from __future__ import annotations

import inspect
import logging
import math
import os
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from easyseg.errors import ArtifactError, DataError, NotFittedError, OptionError, nearest
from easyseg.run_folder import run_folder_of

if TYPE_CHECKING:
    import lightning as L
    import numpy as np
    import pandas as pd
    import torch
    from matplotlib.figure import Figure

    from easyseg.artifact import TrainedModel
    from easyseg.clock import Clock
    from easyseg.console import Reporter
    from easyseg.data.label_map import LabelMap
    from easyseg.data.table import Groups, Samples
    from easyseg.inference.predict import Prediction
    from easyseg.metrics.streaming import SegmentationScores
    from easyseg.plan.hardware import Hardware
    from easyseg.plan.plan import Plan
    from easyseg.preparation import Prepared
    from easyseg.ranks import Ranks

__all__ = ["SemanticSegmentor"]

log = logging.getLogger("easyseg")


# Masks that are compressed while a GPU predicts the next ones: each is in memory meanwhile.
_WRITING_THREADS = 2


class SemanticSegmentor:
    """Learns semantic segmentation from a table of images and masks.

    The constructor only stores its arguments; ``fit`` or ``load`` make the segmentor ready to
    predict. Attributes that end in ``_`` exist after that.

    Args:
        problem_type: ``"binary"`` (foreground against background), ``"multiclass"``, or ``"auto"``:
            found from the masks.
        image: Name of the column of images.
        label: Name of the column of masks.
        classes: Names of the raw mask values in the order of the class ids,
            ``{0: "background", 255: "lesion"}``, a colour as ``"#804080"`` or ``(128, 64, 128)``;
            or names in the ascending order of the values; ``None``: found from the masks.
        ignore_index: Raw mask value, or colour, of pixels that neither train nor score.
        eval_metric: Validation metric such as ``"dice@image"``, any that ``evaluate`` knows; of
            errors such as ``"ber@dataset"`` the lowest is the best. ``None``: ``iou@image`` for
            binary and ``miou@dataset`` for multi-class problems.
        data_root: Folder that relative paths start from; ``None``: the CSV's folder, else the
            working folder.
        path: Run folder; ``None``: ``easyseg-runs/<UTC time>``.
        verbosity: 0 is silent, 1 shows plan, progress and messages, 2 also debugging messages.

    Attributes:
        plan_: All decisions of the fit, each with its reason.
        label_map_: Raw mask values and class ids.
        classes_: Names of the classes in the order of their ids.
        history_: One row a validation, after each epoch: losses, scores, seconds (empty after
            ``load`` of an artifact).
        best_score_: Validation score of the saved epoch: the highest, of an error the lowest.
        path_: The run folder, or the folder that was loaded.

    Example:
        >>> segmentor = SemanticSegmentor(problem_type="binary", verbosity=0)
        >>> segmentor.get_params()["problem_type"]
        'binary'
    """

    plan_: Plan
    label_map_: LabelMap
    classes_: tuple[str, ...]
    history_: pd.DataFrame
    best_score_: float
    path_: Path

    def __init__(
        self,
        problem_type: Literal["auto", "binary", "multiclass"] = "auto",
        *,
        image: str = "image",
        label: str = "label",
        classes: Mapping[Any, str] | Sequence[str] | None = None,
        ignore_index: int | str | Sequence[int] | None = None,
        eval_metric: str | None = None,
        data_root: str | os.PathLike[str] | None = None,
        path: str | os.PathLike[str] | None = None,
        verbosity: int = 1,
    ) -> None:
        self.problem_type = problem_type
        self.image = image
        self.label = label
        self.classes = classes
        self.ignore_index = ignore_index
        self.eval_metric = eval_metric
        self.data_root = data_root
        self.path = path
        self.verbosity = verbosity

    @classmethod
    def _parameter_names(cls) -> tuple[str, ...]:
        return tuple(inspect.signature(cls).parameters)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the constructor's arguments, as scikit-learn's estimators do."""
        return {name: getattr(self, name) for name in self._parameter_names()}

    def set_params(self, **params: Any) -> SemanticSegmentor:
        """Set constructor arguments by name.

        Raises:
            OptionError: If there is no such argument.
        """
        for name, value in params.items():
            if name not in self._parameter_names():
                raise OptionError(
                    f"set_params: no parameter {name!r}. {nearest(name, self._parameter_names())}"
                )
            setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        defaults = inspect.signature(type(self)).parameters
        given = ", ".join(
            f"{name}={value!r}"
            for name, value in self.get_params().items()
            if value is not defaults[name].default and value != defaults[name].default
        )
        return f"{type(self).__name__}({given})"

    def _repr_html_(self) -> str:
        from easyseg.views.notebook import model_html, parameters_html

        name, model = type(self).__name__, getattr(self, "_model", None)
        if model is not None:
            return model_html(name, model, self.path_)
        defaults = {key: v.default for key, v in inspect.signature(type(self)).parameters.items()}
        return parameters_html(name, self.get_params(), defaults)

    def fit(
        self,
        train_data: Any,
        tuning_data: Any = None,
        *,
        presets: str | Sequence[str] = "auto",
        hyperparameters: Mapping[str, Any] | None = None,
        time_limit: float | None = None,
        holdout_frac: float = 0.2,
        groups: Groups | None = None,
        accelerator: str = "auto",
        devices: int | str | Sequence[int] = "auto",
        num_nodes: int = 1,
        strategy: Any = "auto",
        num_workers: int | Literal["auto"] = "auto",
        seed: int = 0,
        plan: Plan | str | os.PathLike[str] | None = None,
        callbacks: Sequence[L.Callback] | None = None,
        logger: Any = None,
    ) -> SemanticSegmentor:
        """Check the data, plan, train, and keep the best epoch by the validation metric.

        A second ``fit`` starts anew. Ctrl-C ends the training after the running step; the best
        model so far stays usable. With a seed the fit is repeatable bit for bit on the CPU of one
        machine (same number of threads), whatever ``num_workers`` is; not under a ``time_limit``,
        and not on a GPU.

        Args:
            train_data: DataFrame or CSV with an image and a label column.
            tuning_data: The same, to choose the best epoch; ``None``: ``holdout_frac`` of the
                training table, chosen by the seed.
            presets: ``"fast"``, ``"balanced"``, ``"best"``, or ``"auto"``: by device, number and
                size of the images; ``"paper"``, ``"paper_3e-4"``, ``"reference"``: as published.
                A domain such as ``"polyp"`` adds what is known of such images beforehand, alone or
                in a list: ``["best", "polyp"]``.
            hyperparameters: Overrides of the plan by dotted keys, ``{"adapter.rank": 8}``.
            time_limit: Wall-clock seconds from this call to its return, everything included.
            holdout_frac: Share of the validation part, between 0 and 1.
            groups: What must be on one side of that split, such as all images of a patient: a
                column of the table, or a function from a row (a pandas Series) to its group.
                ``None``: identical images, and images that look nearly the same or, where these
                confirm them, groups in the file names. With ``tuning_data``: no group may be in
                both tables.
            accelerator: ``"auto"``, ``"cpu"``, ``"gpu"`` (or ``"cuda"``), ``"mps"``.
            devices: Number of devices of a node, their indices, or ``"auto"``.
            num_nodes: Number of nodes (started by torchrun or SLURM).
            strategy: A Lightning strategy, or its name, that keeps the whole network on each
                device; ``"fsdp"``: frozen weights are shared out over the devices of a node
                (run on CPUs only so far);
                ``"auto"``: DDP on several devices.
            num_workers: Loader processes of each rank, for training images; ``"auto"``: none on a
                CPU.
            seed: Seed of split, adapters, order, augmentation and gate noise.
            plan: A whole plan, or the file of one (``plan.json`` of a run folder, or what
                ``easyseg plan --output`` wrote), perhaps edited: what it says is what runs, instead
                of ``presets`` and ``hyperparameters``. Give a ``time_limit`` again.
            callbacks: Lightning callbacks beside our own.
            logger: Lightning logger or loggers.

        Returns:
            The segmentor itself.

        Raises:
            DataError: All problems of the tables at once, before any training.
            OptionError: Unknown options or values out of range.
            WeightsError: If the pretrained weights cannot be had.
        """
        started = time.monotonic()
        self._check_options(time_limit, seed, num_workers, num_nodes)
        from easyseg.artifact import read_artifact
        from easyseg.clock import Clock
        from easyseg.console import reporting
        from easyseg.plan.hardware import detect_hardware, devices_of_notebook
        from easyseg.ranks import is_first_process
        from easyseg.training.fit import Devices, loader_workers, train
        from easyseg.training.probe import PROBED_FROM_SECONDS

        first, clock = is_first_process(), Clock(started, time_limit)
        with (
            run_folder_of(self.path, first=first) as run_folder,
            reporting(self.verbosity if first else 0) as reporter,
        ):
            usable = devices_of_notebook(accelerator, devices)
            hardware = detect_hardware(accelerator, usable, num_nodes)
            # Processes that are forked later cannot use a GPU that was woken before.
            forked = strategy in ("ddp_fork", "ddp_notebook")
            workers = loader_workers(num_workers, hardware)
            prepared = self._prepare(
                train_data,
                tuning_data,
                presets=presets,
                hyperparameters=hyperparameters,
                plan=plan,
                holdout_frac=holdout_frac,
                groups=groups,
                hardware=hardware,
                index=_index(devices),
                seed=seed,
                clock=clock,
                workers=workers,
                probed=plan is None and (time_limit or 0) >= PROBED_FROM_SECONDS and not forked,
                run_folder=run_folder,
                reporter=reporter,
            )
            reporter.show(prepared.plan)
            log.info("classes: %s", prepared.label_map)
            log.info("run folder: %s", run_folder)
            # CPU processes are just a number, and have no indices.
            chosen = isinstance(devices, (list, tuple)) and hardware.accelerator != "cpu"
            used = devices if chosen else hardware.devices
            prepared = train(
                prepared,
                seed=seed,
                clock=clock,
                devices=Devices(hardware, used, strategy, workers),
                reporter=reporter,
                callbacks=tuple(callbacks or ()),
                logger=logger,
            )
            model = read_artifact(prepared.run_folder)
            device = _device(hardware.accelerator, _index(devices))
            self._adopt(model, prepared.run_folder, device)
            log.info("best %s: %.4f", self.plan_.metric, self.best_score_)
        return self

    def plan(
        self,
        train_data: Any,
        tuning_data: Any = None,
        *,
        presets: str | Sequence[str] = "auto",
        hyperparameters: Mapping[str, Any] | None = None,
        time_limit: float | None = None,
        holdout_frac: float = 0.2,
        groups: Groups | None = None,
        accelerator: str = "auto",
        devices: int | str | Sequence[int] = "auto",
        num_nodes: int = 1,
        seed: int = 0,
        plan: Plan | str | os.PathLike[str] | None = None,
    ) -> Plan:
        """Check the data and decide as ``fit`` would, with the same arguments; train nothing.

        A few steps and predictions are timed, and thrown away, so that ``plan.estimate`` tells the
        time and the memory that the fit will take on this machine. There is no estimate for several
        processes, for a limit under a minute, and where features of the frozen part are kept
        (``train.prefix_cache``). Nothing is written. Edit the plan with ``dataclasses.replace``, or
        as a file (``plan.save``), and hand it to ``fit(plan=...)``, or to ``plan(plan=...)`` for
        its own estimate; a time limit is no part of it.

        Args:
            train_data: As for :meth:`fit`, as is all that follows.
            tuning_data: As for :meth:`fit`.
            presets: As for :meth:`fit`.
            hyperparameters: As for :meth:`fit`.
            time_limit: As for :meth:`fit`.
            holdout_frac: As for :meth:`fit`.
            groups: As for :meth:`fit`.
            accelerator: As for :meth:`fit`.
            devices: As for :meth:`fit`.
            num_nodes: As for :meth:`fit`.
            seed: As for :meth:`fit`.
            plan: As for :meth:`fit`.

        Returns:
            Every decision with its reason; ``print`` shows those that have an effect.

        Raises:
            DataError: All problems of the tables at once.
            OptionError: Unknown options or values out of range.
            WeightsError: If the pretrained weights cannot be had.
        """
        started = time.monotonic()
        self._check_options(time_limit, seed, "auto", num_nodes)
        from easyseg.clock import Clock
        from easyseg.console import reporting
        from easyseg.plan.hardware import detect_hardware, devices_of_notebook
        from easyseg.training.fit import loader_workers
        from easyseg.training.probe import PROBED_FROM_SECONDS

        with reporting(self.verbosity) as reporter:
            usable = devices_of_notebook(accelerator, devices)
            hardware = detect_hardware(accelerator, usable, num_nodes)
            prepared = self._prepare(
                train_data,
                tuning_data,
                presets=presets,
                hyperparameters=hyperparameters,
                plan=plan,
                holdout_frac=holdout_frac,
                groups=groups,
                hardware=hardware,
                index=_index(devices),
                seed=seed,
                clock=Clock(started, time_limit),
                workers=loader_workers("auto", hardware),
                probed=time_limit is None or time_limit >= PROBED_FROM_SECONDS,
                run_folder=Path(),
                reporter=reporter,
            )
            log.info("classes: %s", prepared.label_map)
            return prepared.plan

    def predict(
        self,
        data: Any,
        *,
        output_dir: str | os.PathLike[str] | None = None,
        overwrite: bool = False,
        batch_size: int | Literal["auto"] = "auto",
        threshold: float | None = None,
    ) -> pd.Series:
        """Predict the mask of each image, at its own size, in the labels' own values and dtype.

        Labels that are palette images give their indices, written with their palette; labels coded
        in colours give colours.

        Args:
            data: DataFrame (only the image column is read), CSV, folder, one path, array or PIL
                image, or a list of them.
            output_dir: Write each mask as a PNG below this folder instead of returning it; names
                mirror the input and never collide. Only a few images are in memory then.
            overwrite: Let masks replace files that are already there; never the images themselves,
                nor the labels that the table names.
            batch_size: Windows a forward pass: images, unless ``data.geometry`` is ``"tile"``.
            threshold: Probability above which a pixel is foreground, binary only; default 0.5.

        Returns:
            A series on the index of ``data``: arrays ``[h, w]`` (``[h, w, 3]`` uint8 if the labels
            are coded in colours), or paths. With several ranks each one returns the whole series.

        Raises:
            NotFittedError: Before ``fit`` or ``load``.
            DataError: Images that are missing or cannot be read, all at once and before the first
                prediction.
            OptionError: A threshold out of range or for a multi-class model, masks that would
                replace files, or that no PNG holds.
        """
        import numpy as np

        from easyseg.data.table import files_of_column
        from easyseg.inference.collect import on_index, output_paths

        samples, ranks = self._samples(data), self._ranks()
        threshold, batch_size = self._threshold(threshold), self._batch_size(batch_size)
        paths = None
        if output_dir is not None:
            folder = Path(output_dir).expanduser()
            labels = files_of_column(data, self.label, data_root=self.data_root)
            paths = output_paths(
                folder, samples, ranks, self.label_map_, labels=labels, overwrite=overwrite
            )
        self._check_readable(samples, ranks)
        if paths is not None:
            return self._predict_to(paths, samples, ranks, batch_size, threshold)
        masks = {
            item.position: self._raw_mask(item, threshold)
            for item in self._stream(samples, ranks, batch_size, "predicting")
        }
        return on_index(samples, ranks, masks, "mask", np.dtype(object))

    def predict_proba(self, data: Any, *, batch_size: int | Literal["auto"] = "auto") -> pd.Series:
        """Return class probabilities float32 ``[K, h, w]`` of each image, binary (K = 2) too.

        Args:
            data: As for :meth:`predict`.
            batch_size: Windows a forward pass: images, unless ``data.geometry`` is ``"tile"``.

        Returns:
            A series on the index of ``data``; the order of classes is that of ``classes_``.
        """
        import numpy as np

        from easyseg.inference.collect import on_index

        samples, ranks = self._samples(data), self._ranks()
        batch_size = self._batch_size(batch_size)
        self._check_readable(samples, ranks)
        head = self._fitted().network.head
        values = {
            item.position: head.probabilities(item.logits).cpu().numpy()
            for item in self._stream(samples, ranks, batch_size, "predicting")
        }
        return on_index(samples, ranks, values, "probabilities", np.dtype(object))

    def predict_iter(
        self,
        data: Any,
        *,
        batch_size: int | Literal["auto"] = "auto",
        threshold: float | None = None,
    ) -> Iterator[tuple[Any, np.ndarray]]:
        """Predict one image after the other; a few are in memory, however long the table is.

        Args:
            data: As for :meth:`predict`.
            batch_size: Windows a forward pass: images, unless ``data.geometry`` is ``"tile"``.
            threshold: As for :meth:`predict`.

        Returns:
            An iterator of pairs: row label of ``data``, mask as from :meth:`predict`. With several
            ranks each one yields its share.
        """
        samples, ranks = self._samples(data), self._ranks()
        threshold, batch_size = self._threshold(threshold), self._batch_size(batch_size)
        stream = self._stream(samples, ranks, batch_size, None)
        return ((samples.index[i.position], self._raw_mask(i, threshold)) for i in stream)

    def evaluate(
        self,
        data: Any,
        metrics: Sequence[str] | str | None = None,
        *,
        per_image: bool = False,
        intervals: bool = False,
        groups: Groups | None = None,
        threshold: float | None = None,
    ) -> dict[str, float] | pd.DataFrame:
        """Score predictions against labels at each image's own size.

        Only what is asked for is computed; ``hd95@image``, ``s_measure@image`` and other metrics of
        outlines and of probabilities take longer than those of the report.

        Args:
            data: DataFrame or CSV with images and labels.
            metrics: Keys ``metric@averaging`` (:func:`easyseg.metrics.catalogue.metric_keys`), one
                or several; ``"paper"``: what the Conv-LoRA paper reports of the model's domain or
                problem; ``"reference"``: as its reference code scores, squashed to 1024x1024;
                ``"all"``; ``None``: a report of IoU, Dice and accuracy.
            per_image: Return the scores of each image instead.
            intervals: Also return 95 % intervals, by the bootstrap over the images.
            groups: With ``intervals``: images of a group, such as those of a patient, are drawn
                together. A column of the table, or a function from a row to its group.
            threshold: As for :meth:`predict`; metrics of probabilities, and those that end in
                ``@reference``, go without one.

        Returns:
            Key -> score, with ``empty@image`` the number of images that have nothing to score; with
            ``per_image`` a DataFrame on the index of ``data``; with ``intervals`` a DataFrame on
            the keys with the columns ``score``, ``low`` and ``high``.

        Raises:
            NotFittedError: Before ``fit`` or ``load``.
            DataError: All problems of the table at once.
            OptionError: Unknown metrics, or options that exclude each other.
        """
        import pandas as pd

        keys = self._metrics(metrics)
        if per_image and intervals:
            raise OptionError("per_image and intervals: one image has no interval; ask for one")
        if per_image and keys and not any(self._is_of_image(key) for key in keys):
            raise OptionError(
                f"metrics is {metrics!r}, and no image has such a score of its own; expected keys "
                "that end in @image with per_image=True"
            )
        scores, rows, bounds = self._score(
            data, keys, threshold, intervals=intervals, groups=groups
        )
        if per_image:
            return rows[[key for key in keys or rows.columns if key in rows.columns]]
        if not intervals:
            return scores
        lines = {
            key: (value, *bounds.get(key, (float("nan"),) * 2)) for key, value in scores.items()
        }
        return pd.DataFrame.from_dict(lines, orient="index", columns=["score", "low", "high"])

    def evaluate_curves(self, data: Any) -> pd.DataFrame:
        """Return F-measure and E-measure at each of 256 thresholds, the means over the images.

        These are the curves of the papers on salient and camouflaged objects. As there, each map of
        probabilities is stretched to 0..1 first: a threshold here is none for :meth:`predict`.

        Args:
            data: DataFrame or CSV with images and labels.

        Returns:
            DataFrame on ``threshold`` (0..1) with the columns ``e_measure`` and ``f_measure``;
            their maxima are ``e_measure_max@dataset`` and ``f_measure_max@dataset``.

        Raises:
            NotFittedError: Before ``fit`` or ``load``.
            DataError: All problems of the table at once.
            OptionError: If the problem is not binary.
        """
        import pandas as pd

        problem = self._fitted().plan.problem_type
        if problem != "binary":
            raise OptionError(
                f"curves over thresholds are of binary problems; this model's is {problem!r}"
            )
        scores, _ = self._gather(data, ("e_measure_max@dataset", "f_measure_max@dataset"))
        curves = scores.curves()
        steps = len(curves["f_measure"]) - 1
        thresholds = pd.Index([step / steps for step in range(steps + 1)], name="threshold")
        return pd.DataFrame(curves, index=thresholds)

    def _is_of_image(self, key: str) -> bool:
        """Return whether each image has a score of its own."""
        from easyseg.metrics.catalogue import known_metrics

        model = self._fitted()
        binary = model.plan.problem_type == "binary"
        return known_metrics(binary, model.label_map.names)[key].of_image

    def _score(
        self,
        data: Any,
        metrics: Sequence[str] | str | None,
        threshold: float | None,
        *,
        intervals: bool = False,
        groups: Groups | None = None,
    ) -> tuple[dict[str, float], pd.DataFrame, dict[str, tuple[float, float]]]:
        """Return the asked scores of all images, all of each one, and intervals; from one pass."""
        import pandas as pd

        from easyseg.metrics.intervals import bootstrap_intervals
        from easyseg.metrics.streaming import EMPTY_KEY

        metrics = self._metrics(metrics)
        scores, samples = self._gather(
            data, metrics or (), threshold, intervals=intervals, groups=groups
        )
        found = scores.compute(metrics)
        bounds = {}
        if intervals:
            keys = [key for key in found if key != EMPTY_KEY]
            bounds = bootstrap_intervals(scores, keys, samples.groups)
        return found, pd.DataFrame(scores.per_image(), index=samples.index), bounds

    def _gather(
        self,
        data: Any,
        metrics: Sequence[str],
        threshold: float | None = None,
        *,
        intervals: bool = False,
        groups: Groups | None = None,
    ) -> tuple[SegmentationScores, Samples]:
        """Predict labelled images and return what their scores are computed of, and the images."""
        from easyseg.console import reporting
        from easyseg.metrics.evaluate import score
        from easyseg.preparation import read_labelled

        model, ranks = self._fitted(), self._ranks()
        threshold = self._threshold(threshold)
        if groups is not None and not intervals:
            raise OptionError("groups: only intervals need them; expected intervals=True as well")
        with reporting(self.verbosity if ranks.rank == 0 else 0) as reporter:
            samples, labels = read_labelled(
                data,
                model.label_map,
                image=self.image,
                label=self.label,
                data_root=self.data_root,
                groups=groups,
            )
            with reporter.progress("scoring", -(-len(samples) // ranks.world)) as advance:
                scores = score(
                    replace(model, label_map=labels),
                    samples,
                    batch_size=self._batch_size("auto"),
                    metrics=metrics,
                    resampled=intervals,
                    threshold=threshold,
                    ranks=ranks,
                    on_image=lambda: advance(1),
                )
        return scores, samples

    def plot_history(self) -> Figure:
        """Draw training loss, validation score and learning rate by epoch; the saved one is marked.

        Returns:
            A matplotlib figure, which a notebook shows; ``savefig("history.png")`` writes it.

        Raises:
            NotFittedError: Before ``fit`` or ``load``.
            ArtifactError: If the model was loaded from a folder that holds no history.
            OptionError: If matplotlib is not installed.
        """
        from easyseg.views.history import plot_history

        model = self._fitted()
        if self.history_.empty:
            raise ArtifactError(
                f"{self.path_} holds no history: fit writes metrics.csv into its run folder, and a "
                "saved model goes without it; load the run folder to see it"
            )
        return plot_history(self.history_, model.plan.metric)

    def show_predictions(self, table: Any, num_images: int = 4, seed: int = 0) -> Figure:
        """Draw a few images with their masks, the predictions, and what is wrong with these.

        Large images are shown smaller; scores are those at the images' own sizes.

        Args:
            table: As for :meth:`predict`. If it is a table with a column of labels, masks, errors
                and the score of each image are shown: that of the plan's metric, or ``iou@image``
                where a single image has no such score.
            num_images: How many images are drawn.
            seed: Which ones.

        Returns:
            A matplotlib figure, as from :meth:`plot_history`: a row for each image.

        Raises:
            NotFittedError: Before ``fit`` or ``load``.
            DataError: If files are missing, or those of the chosen images cannot be read.
            OptionError: If matplotlib is not installed, or ``num_images`` is below 1.
        """
        from easyseg.views.examples import find_examples
        from easyseg.views.predictions import plot_predictions

        return plot_predictions(find_examples(self, table, num_images, seed))

    def show_experts(self, table: Any = None) -> Figure:
        """Draw which experts of Conv-LoRA are used: by block, and by the size of the objects.

        An object is small below 1 % of its image, medium below 10 %; a window is counted under the
        object that fills most of it. Cramér's V says how much the choice depends on that size, and
        how much on whether there is an object, up to 1, beside what chance gives: that of the
        objects of other images. The mean scale of each block and size says how.

        Args:
            table: DataFrame or CSV with images and labels. ``None``: what the run folder holds of
                the use in training, by block and by epoch.

        Returns:
            A matplotlib figure, as from :meth:`plot_history`. Shares are those of the windows that
            a gate sent to each expert; with ``adapter.routing="image"``, and in blocks that see the
            whole image, those of the images.

        Raises:
            NotFittedError: Before ``fit`` or ``load``.
            ArtifactError: Without a table, if the folder of the model holds no use of experts.
            DataError: All problems of the table at once.
            OptionError: If the adapter has no experts to choose from, or matplotlib is not
                installed.
        """
        from easyseg.views.experts import show_training_use, show_use

        return show_training_use(self) if table is None else show_use(self, table)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the model as a folder: trained tensors, JSON, a model card; no pickle.

        Args:
            path: The folder; an artifact that is already there is replaced.

        Returns:
            The folder.

        Raises:
            NotFittedError: Before ``fit`` or ``load``.
            ArtifactError: If the folder holds something else, or cannot be written.
        """
        from easyseg.artifact import write_artifact

        model = self._fitted()
        return write_artifact(model, Path(path).expanduser())

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        device: str | torch.device | None = None,
        *,
        verbosity: int = 1,
    ) -> SemanticSegmentor:
        """Load a run folder or an artifact; runs no code from it.

        The network is asked only for official pretrained weights that are not on this machine yet.

        Args:
            path: The folder.
            device: Where to predict, such as ``"cpu"`` or ``"cuda:1"``; ``None``: the best here.
            verbosity: As for the constructor.

        Returns:
            A segmentor that is ready to predict.

        Raises:
            ArtifactError: If it is no saved model, is damaged, or the pretrained weights here are
                not those it was trained on.
            WeightsError: If the pretrained weights cannot be had.
            OptionError: If there is no such device.
        """
        import torch

        from easyseg.artifact import read_artifact
        from easyseg.console import reporting
        from easyseg.plan.hardware import detect_hardware
        from easyseg.ranks import local_rank

        with reporting(verbosity):
            model = read_artifact(path)
        if device is None:
            device = _device(detect_hardware().accelerator, local_rank())
        label_map = model.label_map
        segmentor = cls(
            model.plan.problem_type,  # type: ignore[arg-type]
            image=model.columns.get("image", "image"),
            label=model.columns.get("label", "label"),
            classes=label_map.classes,
            ignore_index=label_map.ignore,
            eval_metric=model.plan.metric,
            verbosity=verbosity,
        )
        try:
            segmentor._adopt(model, Path(path).expanduser(), torch.device(device))
        except (RuntimeError, AssertionError) as error:
            raise OptionError(
                f"device is {str(device)!r}, which is not usable here ({error}); expected a device "
                "of this machine such as 'cpu' or 'cuda:0', or None for the best"
            ) from error
        return segmentor

    # What follows is private.

    def _check_options(
        self, time_limit: float | None, seed: int, num_workers: int | str, num_nodes: int
    ) -> None:
        if self.problem_type not in ("auto", "binary", "multiclass"):
            raise OptionError(
                f"problem_type is {self.problem_type!r}, expected 'auto', 'binary' or 'multiclass'"
            )
        if time_limit is not None and not 0 < time_limit < math.inf:
            raise OptionError(
                f"time_limit is {time_limit}, expected seconds above 0, or None for no limit"
            )
        if not (isinstance(seed, Integral) and 0 <= seed < 2**32):
            raise OptionError(f"seed is {seed!r}, expected a whole number from 0 to 2**32 - 1")
        if num_workers != "auto" and not (isinstance(num_workers, Integral) and num_workers >= 0):
            raise OptionError(f"num_workers is {num_workers!r}, expected 'auto' or at least 0")
        if not isinstance(num_nodes, Integral) or num_nodes < 1:
            raise OptionError(f"num_nodes is {num_nodes!r}, expected at least 1")

    def _prepare(
        self,
        train_data: Any,
        tuning_data: Any,
        *,
        presets: str | Sequence[str],
        hyperparameters: Mapping[str, Any] | None,
        plan: Plan | str | os.PathLike[str] | None,
        holdout_frac: float,
        groups: Groups | None,
        hardware: Hardware,
        index: int,
        seed: int,
        clock: Clock,
        workers: int,
        probed: bool,
        run_folder: Path,
        reporter: Reporter,
    ) -> Prepared:
        """Check the data and decide, after a probe where one process trains."""
        if tuning_data is None and not 0 < holdout_frac < 1:
            raise OptionError(f"holdout_frac is {holdout_frac}, expected a share between 0 and 1")
        from easyseg.preparation import prepare
        from easyseg.training.probe import measure_costs, reset_peak

        probe = None
        # Of several processes each would measure other costs, and plan another fit.
        if probed and hardware.processes == 1:
            device = _device(hardware.accelerator, index)
            # On a CPU they take its cores.
            beside = 0 if hardware.accelerator == "cpu" else workers
            if hardware.accelerator == "cpu":
                reset_peak(device)  # of an earlier fit in this process
            probe = partial(measure_costs, device=device, seed=seed, clock=clock, workers=beside)
        with reporter.progress("reading the data, planning", None) as advance:
            return prepare(
                train_data,
                tuning_data,
                problem_type=self.problem_type,
                image=self.image,
                label=self.label,
                classes=self.classes,
                ignore_index=self.ignore_index,
                eval_metric=self.eval_metric,
                data_root=self.data_root,
                presets=presets,
                hyperparameters=hyperparameters,
                time_limit=clock.limit,
                holdout_frac=holdout_frac,
                groups=groups,
                hardware=hardware,
                seed=seed,
                run_folder=run_folder,
                plan=_read_plan(plan),
                on_image=advance,
                probe=probe,
            )

    def _adopt(self, model: TrainedModel, path: Path, device: torch.device) -> None:
        import pandas as pd

        model.network.to(device)
        self._model = model
        self.plan_ = model.plan
        self.label_map_ = model.label_map
        self.classes_ = model.label_map.names
        self.best_score_ = float(model.metrics.get(model.plan.metric, float("nan")))
        self.path_ = path
        log_file = path / "metrics.csv"
        self.history_ = pd.read_csv(log_file) if log_file.is_file() else pd.DataFrame()

    def _fitted(self) -> TrainedModel:
        model: TrainedModel | None = getattr(self, "_model", None)
        if model is None:
            raise NotFittedError(
                "this SemanticSegmentor has no model yet; call fit(train_data), or "
                "SemanticSegmentor.load(path)"
            )
        return model

    def _ranks(self) -> Ranks:
        from easyseg.ranks import current_ranks

        return current_ranks(self._device())

    def _device(self) -> torch.device:
        """Return where the network is."""
        return next(self._fitted().network.parameters()).device

    def _samples(self, data: Any) -> Samples:
        from easyseg.data.table import read_samples

        self._fitted()
        return read_samples(data, image=self.image, label=None, data_root=self.data_root)

    def _check_readable(self, samples: Samples, ranks: Ranks) -> None:
        """Read all files once before any is predicted: a damaged one costs no results.

        Each rank reads its share, and all of them hear of all problems.
        """
        from easyseg.auditing.scan import check_readable, scan
        from easyseg.console import Reporter

        files = [i for i, image in enumerate(samples.images) if isinstance(image, Path)]
        share = samples.take(files[ranks.rank :: ranks.world])
        problems: Sequence[str] = ()
        reporter = Reporter(self.verbosity if ranks.rank == 0 else 0)
        with reporter.progress("reading the images", len(share)) as advance:
            try:
                check_readable(share, scan(share, progress=lambda done: advance(1)))
            except DataError as error:
                problems = error.problems
        found = [problem for each in ranks.gather(problems) for problem in each]
        if found:
            raise DataError(found)

    def _metrics(self, metrics: Sequence[str] | str | None) -> tuple[str, ...] | None:
        from easyseg.metrics.paper import expand_metrics

        model = self._fitted()
        if metrics is None:
            return None
        binary = model.plan.problem_type == "binary"
        return expand_metrics(metrics, model.plan.preset, binary, model.label_map.names)

    def _batch_size(self, batch_size: int | str) -> int:
        from easyseg.inference.predict import auto_batch_size

        if batch_size == "auto":
            return auto_batch_size(self._fitted().plan, self._device())
        if not isinstance(batch_size, Integral) or batch_size < 1:
            raise OptionError(f"batch_size is {batch_size!r}, expected 'auto' or at least 1")
        return int(batch_size)

    def _threshold(self, threshold: float | None) -> float | None:
        if threshold is None:
            return None
        if self._fitted().plan.head.kind != "binary":
            raise OptionError(
                "threshold applies to models with the head 'binary'; this one has "
                f"{self._fitted().plan.head.kind!r}, which chooses between classes"
            )
        if not 0 <= threshold <= 1:
            raise OptionError(f"threshold is {threshold}, expected a probability between 0 and 1")
        return threshold

    def _stream(
        self, samples: Samples, ranks: Ranks, batch_size: int | str, text: str | None
    ) -> Generator[Prediction]:
        from easyseg.allocator import keep_freed_memory
        from easyseg.console import Reporter
        from easyseg.inference.predict import predict_stream

        stream = predict_stream(
            self._fitted(), samples, batch_size=self._batch_size(batch_size), ranks=ranks
        )
        if text is None:
            yield from stream
            return
        reporter = Reporter(self.verbosity if ranks.rank == 0 else 0)
        progress = reporter.progress(text, -(-len(samples) // ranks.world))
        with keep_freed_memory(), progress as advance:
            for item in stream:
                yield item
                advance(1)

    def _raw_mask(self, item: Prediction, threshold: float | None) -> np.ndarray:
        model = self._fitted()
        ids = model.network.head.decide(item.logits, threshold)
        return model.label_map.decode(ids.cpu().numpy())

    def _predict_to(
        self,
        paths: list[Path],
        samples: Samples,
        ranks: Ranks,
        batch_size: int | str,
        threshold: float | None,
    ) -> pd.Series:
        import pandas as pd

        from easyseg.inference.writers import write_mask
        from easyseg.threads import map_ahead, threads_beside

        palette = self._fitted().label_map.palette

        def write(done: tuple[int, np.ndarray]) -> None:
            write_mask(paths[done[0]], done[1], palette)

        threads = min(_WRITING_THREADS, threads_beside(self._device(), ranks.world))
        # Closed after an error, too, which holds the frames of what was going on.
        with closing(self._stream(samples, ranks, batch_size, "predicting")) as stream:
            masks = ((item.position, self._raw_mask(item, threshold)) for item in stream)
            for _ in map_ahead(write, masks, threads):
                pass
        ranks.gather(None)  # No rank returns paths that another one has not written yet.
        return pd.Series([str(p) for p in paths], index=samples.index, name="mask", dtype=object)


def _read_plan(plan: Any) -> Plan | None:
    """Return the plan that a user gave, read if it is a file."""
    from easyseg.plan.plan import Plan

    if plan is None:
        return None
    if isinstance(plan, Plan):  # dataclasses.replace checks nothing.
        return Plan.from_values(plan.values(), plan.reasons)
    if isinstance(plan, (str, os.PathLike)):
        return Plan.load(plan)
    raise OptionError(
        f"plan is of type {type(plan).__name__}, expected a Plan or the path of a file; "
        "Plan.from_dict makes one of a dictionary"
    )


def _index(devices: int | str | Sequence[int]) -> int:
    """Return which device of the machine this process uses."""
    from easyseg.ranks import local_rank

    return devices[local_rank()] if isinstance(devices, (list, tuple)) else local_rank()


def _device(accelerator: str, index: int) -> torch.device:
    import torch

    return torch.device("cuda", index) if accelerator == "cuda" else torch.device(accelerator)
