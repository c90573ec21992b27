"""Questions to the store: audits and, on top of them, jobs."""
