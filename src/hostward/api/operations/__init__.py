"""The API's operations, by topic: each module adds its own to the application, and decides nothing about who may."""
