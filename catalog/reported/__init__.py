"""Results that others reported: how entries hold them, how they are checked, and how they are chosen and exported."""
