"""A datacenter on one machine, from a YAML file."""
