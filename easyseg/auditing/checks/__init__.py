"""The checks: pure functions from the tables under audit to findings, one thought a file.

A new check is a function in a file of its own, and its name in `CHECKS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from easyseg.auditing.checks.channels import check_brightness, check_channels
from easyseg.auditing.checks.classes import check_missing_classes, check_rare_classes
from easyseg.auditing.checks.codings import (
    check_mixed_bits,
    check_mixed_encodings,
    check_palettes,
    check_two_codings,
)
from easyseg.auditing.checks.columns import (
    check_label_is_image,
    check_pictures,
    check_swapped_columns,
)
from easyseg.auditing.checks.duplicates import (
    check_duplicates,
    check_near_duplicates,
    check_shared_masks,
)
from easyseg.auditing.checks.emptiness import check_empty_masks
from easyseg.auditing.checks.encodings import check_encodings
from easyseg.auditing.checks.files import check_cells, check_files
from easyseg.auditing.checks.groups import check_groups
from easyseg.auditing.checks.ignored import check_ignored, check_ignored_foreground
from easyseg.auditing.checks.instances import check_instances
from easyseg.auditing.checks.inverted import check_inverted, check_inverted_masks
from easyseg.auditing.checks.lone_values import check_lone_values
from easyseg.auditing.checks.orientations import check_orientations
from easyseg.auditing.checks.pages import check_pages
from easyseg.auditing.checks.sizes import check_extreme_sizes, check_mask_sizes
from easyseg.auditing.checks.smears import check_blended_colours, check_lossy, check_smeared
from easyseg.auditing.checks.values import (
    check_label_map,
    check_many_values,
    check_soft_masks,
    check_unknown_values,
)
from easyseg.auditing.findings import Finding
from easyseg.auditing.tables import Audited

__all__ = ["CHECKS", "READING_CHECKS", "run_checks"]

Check = Callable[[Audited], Iterable[Finding]]

READING_CHECKS: tuple[Check, ...] = (
    check_cells,
    check_files,
    check_swapped_columns,
    check_label_is_image,
    check_pictures,
    check_mask_sizes,
    check_many_values,
    check_unknown_values,
    check_ignored_foreground,
    check_smeared,
)
"""Whether a table can be read, and scored, by a label map that is there."""

CHECKS: tuple[Check, ...] = (
    *READING_CHECKS,
    check_label_map,
    check_mixed_bits,
    check_mixed_encodings,
    check_two_codings,
    check_soft_masks,
    check_instances,
    check_duplicates,
    check_near_duplicates,
    check_shared_masks,
    check_groups,
    check_lossy,
    check_blended_colours,
    check_palettes,
    check_inverted,
    check_inverted_masks,
    check_lone_values,
    check_empty_masks,
    check_missing_classes,
    check_rare_classes,
    check_orientations,
    check_brightness,
    check_extreme_sizes,
    check_encodings,
    check_ignored,
    check_channels,
    check_pages,
)


def run_checks(audited: Audited, checks: Iterable[Check] = CHECKS) -> tuple[Finding, ...]:
    """Return the findings of checks, the worst ones first.

    Args:
        audited: The tables, and how their masks are read.
        checks: The checks to run.
    """
    found = [finding for check in checks for finding in check(audited)]
    return tuple(sorted(found, key=lambda finding: -finding.severity))
