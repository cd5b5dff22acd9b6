"""Evaluations of cross-validation, of the paper's reproduction and of the gate."""
