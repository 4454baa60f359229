"""Segmentation scores: a functional NumPy core, and scores of streams of images.

Functions of one image or of counts: :mod:`~easyseg.metrics.functional` (confusion matrices),
:mod:`~easyseg.metrics.curves` and :mod:`~easyseg.metrics.structure` (maps of probabilities),
:mod:`~easyseg.metrics.ranking` (AUC, average precision), :mod:`~easyseg.metrics.boundary`
(outlines). ``SegmentationScores`` of :mod:`~easyseg.metrics.streaming` gathers them image by image:
it keeps no mask and no map, but the few scores that each image has of its own.
"""
