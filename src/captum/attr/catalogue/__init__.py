"""The table of methods, one row each, by family."""
