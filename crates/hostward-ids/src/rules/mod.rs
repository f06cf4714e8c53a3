//! Signatures in Suricata's syntax, read into values. What is not understood is told with file, line and keyword.
