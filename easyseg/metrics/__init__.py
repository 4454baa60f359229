"""Segmentation scores: a functional NumPy core, and scores of streams in constant memory.

Functions of one image or of counts: :mod:`~easyseg.metrics.functional` (confusion matrices),
:mod:`~easyseg.metrics.curves` and :mod:`~easyseg.metrics.structure` (maps of probabilities),
:mod:`~easyseg.metrics.ranking` (AUC, average precision), :mod:`~easyseg.metrics.boundary`
(outlines). ``SegmentationScores`` of :mod:`~easyseg.metrics.streaming` gathers them image by image.
"""
