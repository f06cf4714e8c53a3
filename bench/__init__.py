"""Hostward beside its peers, measured over real sockets between namespaces; see bench/README.md."""
