"""Prediction: streaming over a table, and the writers of its masks."""
