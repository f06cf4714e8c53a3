//! Joins the parts: a frame goes in, events come out.
