"""Collections of texts with their vectors, kept and searched.

- ``items``: what is stored, what is asked, and the interface that every store has.
- ``disk``: a store in a folder, for up to about a million texts; ``vector_file`` and ``nearest`` are its parts.
- ``postgres``: the same on PostgreSQL with pgvector, for more texts, or several services on one store.
"""
