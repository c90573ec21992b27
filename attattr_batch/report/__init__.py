"""Charts and the one-file report, made from the store's summary views."""
