"""A published record measured again: its commit, its versions, its command; and what came out otherwise."""
