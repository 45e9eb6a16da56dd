"""Training: recipes, the loop that follows them, and what it leaves behind."""
