"""Segmentation scores: a functional NumPy core and a thin streaming class."""
