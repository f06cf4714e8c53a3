"""SCTP associations as readable tables."""
