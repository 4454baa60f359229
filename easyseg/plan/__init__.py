"""From fingerprint and hardware to a plan: every decision has a value and a reason."""
