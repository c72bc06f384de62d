"""New entries from public sources (arXiv, Crossref, GitHub), and checks of old ones against them."""
