"""Metrics for Prometheus: which there are (``catalogue``), how they are written (``page``), where they are served."""
