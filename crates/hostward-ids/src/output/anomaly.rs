//! The event `anomaly`: something odd, whether a signature asks for it or not.

use super::json::Json;
use super::{Heading, application_name};
use crate::EventName;
use crate::flow::Flow;

/// Which part of the engine found it odd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Decode,
    Stream,
    Application { transaction: Option<u64> },
}

pub(crate) fn write(json: &mut Json, heading: &Heading<'_>, kind: Kind, name: EventName) {
    heading.write(json);
    if let Kind::Application { transaction: Some(id) } = kind {
        json.number("tx_id", id);
    }
    json.open("anomaly");
    match kind {
        Kind::Decode => {
            json.text("type", "decode");
            json.text("event", &format!("decoder.{name}"));
        }
        Kind::Stream => {
            json.text("type", "stream");
            json.text("event", name);
        }
        Kind::Application { .. } => {
            json.text("type", "applayer");
            // EVE has the event without its protocol, which is told beside it.
            let event = name.split_once('.').map_or(name, |(_, event)| event);
            if name.starts_with("applayer_") {
                json.text("event", &name.to_ascii_uppercase());
                json.text("layer", "proto_detect");
            } else {
                json.text("event", event);
                json.text("layer", "proto_parser");
            }
        }
    }
    if let (Kind::Application { .. }, Some(protocol)) = (kind, heading.flow.and_then(Flow::application)) {
        json.text("app_proto", application_name(protocol));
    }
    json.close();
}
