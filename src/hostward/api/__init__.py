"""The REST API of the controller."""
