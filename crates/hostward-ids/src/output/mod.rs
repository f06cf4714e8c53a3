//! EVE JSON: one event a line, as Suricata's schema has it, with the object `hostward` beside it.
