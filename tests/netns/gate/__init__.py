"""The gate and the sentinel as processes."""
