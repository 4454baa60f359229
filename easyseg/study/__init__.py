"""Studies: methods x data sets x seeds for an equal budget, as cells that are run once each."""
