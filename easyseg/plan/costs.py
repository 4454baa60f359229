"""What work costs on this machine, as a probe measured it, and what follows for a fit."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

__all__ = ["Costs", "Estimate"]


@dataclass(frozen=True)
class Estimate:
    """What a fit is expected to take.

    Attributes:
        seconds: From its call to its return, unless early stopping ends it sooner.
        memory_gb: Its largest share of memory, the process with all libraries included (on a GPU:
            of the GPU's memory); None where it is not known.
        machine: Where, in words.
        plan: Digest of the plan's values: an edited plan is another fit.
    """

    seconds: float
    memory_gb: float | None
    machine: str = "this machine"
    plan: str = ""

    def __post_init__(self) -> None:
        for value in (self.seconds, 0.0 if self.memory_gb is None else self.memory_gb):
            if not isinstance(value, (int, float)):
                raise TypeError(f"an estimate of {value!r}, expected a number")

    def __str__(self) -> str:
        minutes, seconds = divmod(round(self.seconds), 60)
        hours, left = divmod(minutes, 60)
        time = f"{minutes} min {seconds:02} s" if minutes else f"{seconds} s"
        if hours > 1:
            time = f"{hours} h {left:02} min"
        memory = "" if self.memory_gb is None else f" and {self.memory_gb:.1f} GB"
        return f"about {time}{memory}"


@dataclass(frozen=True)
class Costs:
    """Seconds and memory of the parts of a fit.

    Attributes:
        step: Seconds of an optimizer step, with reading its images where they do not stay in
            memory; None where whole steps tell little, for features of the frozen part are kept.
        image: Seconds of validating an image.
        build: Seconds of building the network; it is built again around the best weights.
        before: Seconds of the fit before training starts.
        memory_gb: Largest resident size of the process in GB that a fit is expected to reach, from
            that after a step and a few validation images (on a GPU: that of its memory); None where
            it is not known.
        reading: Seconds of reading all training images for the first time, where they stay in
            memory then.
        step_is_bound: Whether steps are shorter than that, as features are kept.
        step_is_guess: Whether there was no time for a step, so that it is guessed.
        took: Seconds that measuring this took.
    """

    step: float | None
    image: float
    build: float
    before: float
    memory_gb: float | None
    reading: float = 0.0
    step_is_bound: bool = False
    step_is_guess: bool = False
    took: float = 0.0

    def completed(self, first: Costs) -> Costs:
        """Return these costs of a second plan, with what they leave open from those of the first.

        It may need no more memory than the first has left, and none of its steps is timed where
        features of the frozen part are kept; without them steps are longer. A step that was timed
        tells more than a guess.

        Args:
            first: What the probe of the first plan measured.
        """
        costs = replace(self, memory_gb=self.memory_gb or first.memory_gb)
        if self.step is None:
            costs = replace(costs, step=first.step, reading=first.reading, step_is_bound=True)
        elif self.step_is_guess and not first.step_is_guess:
            costs = replace(costs, step=first.step, step_is_guess=False)
        return costs

    def seconds(self, steps: int, steps_an_epoch: int, validation_images: int) -> float:
        """Return what a fit takes, from its call to its return; the cost of a step must be known.

        Args:
            steps: Optimizer steps in all.
            steps_an_epoch: Optimizer steps of an epoch.
            validation_images: Images of each validation.
        """
        assert self.step is not None
        reading = min(1.0, steps / steps_an_epoch) * self.reading
        validations = math.ceil(steps / steps_an_epoch) * validation_images * self.image
        return self.before + 2 * self.build + steps * self.step + reading + validations

    def steps_within(self, seconds: float, steps_an_epoch: int, validation_images: int) -> int:
        """Return how many steps a limit pays for, with a validation after each epoch and the last.

        The cost of a step must be known.

        Args:
            seconds: The limit of the whole fit.
            steps_an_epoch: Optimizer steps of an epoch.
            validation_images: Images of each validation.
        """
        assert self.step is not None
        validation = validation_images * self.image
        epoch = steps_an_epoch * self.step + validation
        left = seconds - self.seconds(0, steps_an_epoch, 0)
        if left < epoch + self.reading:
            a_step = self.step + self.reading / steps_an_epoch
            return max(0, int((left - validation) / a_step))
        epochs, left = divmod(left - self.reading, epoch)
        return int(epochs) * steps_an_epoch + max(0, int((left - validation) / self.step))
