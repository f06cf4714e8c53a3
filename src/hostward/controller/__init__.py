"""Tenants, policy, endpoints, hosts; compiles revisions and streams them to agents."""
