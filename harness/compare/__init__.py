"""Two implementations compared, with paired tests."""
