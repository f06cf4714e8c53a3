//! sFlow version 5 (sflow.org, `sflow_version_5.txt`, July 2004), and the structures that later memos of sflow.org added.
