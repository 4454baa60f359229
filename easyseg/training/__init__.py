"""Training: losses, the LightningModule, the fit and its callbacks."""
