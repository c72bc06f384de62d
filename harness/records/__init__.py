"""One record for each run, with all that is needed to know where it comes from."""
