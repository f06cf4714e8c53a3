-- Version 3: API tokens, the audit log, and in history the assertions (JSON) that were allowed not to hold.
CREATE TABLE access_tokens (name TEXT PRIMARY KEY, record BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE audit (number INTEGER PRIMARY KEY, record BLOB NOT NULL);
CREATE TRIGGER audit_never_changes BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
CREATE TRIGGER audit_never_leaves BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
ALTER TABLE revisions ADD COLUMN allowed_failing TEXT NOT NULL DEFAULT '[]';
