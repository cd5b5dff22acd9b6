"""Commands that make or change a bundle."""
