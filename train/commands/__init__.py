"""Commands about data and runs."""
