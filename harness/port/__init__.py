"""What an implementation's file may import: the standard library and numpy alone at module level."""
