"""The paper's experiments again, the systems it compares, cross-validation."""
