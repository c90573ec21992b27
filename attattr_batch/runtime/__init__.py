"""Running passes: executors, the driver (the one writer) and progress."""
