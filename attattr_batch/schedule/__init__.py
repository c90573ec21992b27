"""Recurring runs: which tick is due, who runs it, and what is checked afterwards."""
