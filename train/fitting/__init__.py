"""The fit of a model: steps, heads, logistic regression, fine-tuning, search, several processes."""
