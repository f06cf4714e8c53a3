-- The controller's embedded database. The version lies in PRAGMA user_version; the program refuses any other.
CREATE TABLE texts (hash TEXT PRIMARY KEY, text TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE policies (
    revision INTEGER NOT NULL,
    tenant TEXT NOT NULL,
    file TEXT NOT NULL,
    text_hash TEXT NOT NULL REFERENCES texts (hash),
    PRIMARY KEY (revision, tenant)
) WITHOUT ROWID;
CREATE TABLE revisions (
    number INTEGER PRIMARY KEY,
    time TEXT NOT NULL,
    author TEXT NOT NULL,
    summary TEXT NOT NULL,
    policy_revision INTEGER NOT NULL,
    allowed_failing TEXT NOT NULL DEFAULT '[]' -- JSON: assertions that did not hold, and were allowed not to
);
CREATE TABLE endpoints (id TEXT PRIMARY KEY, record BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE hosts (name TEXT PRIMARY KEY, record BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE retired (address TEXT PRIMARY KEY, record BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE tokens (secret_hash TEXT PRIMARY KEY, record BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE numbers (id INTEGER PRIMARY KEY CHECK (id = 1), record BLOB NOT NULL);
CREATE TABLE unconfirmed (id INTEGER PRIMARY KEY CHECK (id = 1), record BLOB NOT NULL);

-- History is append-only: not even a bug in the controller may rewrite what was in force.
CREATE TRIGGER revisions_never_change BEFORE UPDATE ON revisions BEGIN SELECT RAISE(ABORT, 'history is append-only'); END;
CREATE TRIGGER revisions_never_leave BEFORE DELETE ON revisions BEGIN SELECT RAISE(ABORT, 'history is append-only'); END;
CREATE TRIGGER policies_never_change BEFORE UPDATE ON policies BEGIN SELECT RAISE(ABORT, 'history is append-only'); END;
CREATE TRIGGER policies_never_leave BEFORE DELETE ON policies BEGIN SELECT RAISE(ABORT, 'history is append-only'); END;
