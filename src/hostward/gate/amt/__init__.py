"""The gate by Intel AMT: System Defense policies in a network controller's firmware, set over WS-Management."""
