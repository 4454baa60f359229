"""What the user's images and masks are: every problem found at once, and the fingerprint."""
