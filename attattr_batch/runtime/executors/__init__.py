"""Executors: where chunks are computed. Ray is imported only when its executor is asked for."""
