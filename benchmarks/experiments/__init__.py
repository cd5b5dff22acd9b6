"""Cross-validation, the paper's reproduction and the gate, evaluated."""
