"""Datasets: the GLUE task table, sources of rows, label matching, tokenisation and chunk planning."""
