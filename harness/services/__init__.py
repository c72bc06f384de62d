"""Services of sentence vectors that ``load`` drives: one file for each, started as a process of its own."""
