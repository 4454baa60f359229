"""What is shown of a model: its history, its predictions, its experts, and itself in a notebook."""
