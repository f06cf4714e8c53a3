-- Version 4: which TPM a host enrolled with, and the boot that it proved last. Beside the hosts, so that neither overwrites the other.
CREATE TABLE attestations (host TEXT PRIMARY KEY, record BLOB NOT NULL) WITHOUT ROWID;
