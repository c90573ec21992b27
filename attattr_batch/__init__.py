"""Self-attention attribution over whole datasets, kept in a database you can query."""
