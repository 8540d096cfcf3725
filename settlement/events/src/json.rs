//! The JSON view of an event, for people, logs and readers in other languages: the fields by name, digests in hex,
//! integers above 2^53 as strings. It is a view: the digest is taken of the binary encoding, never of this.

use serde_json::Value;

use crate::codec::DecodeError;
use crate::event::Event;

/// The view as a JSON value.
#[must_use]
pub fn to_value(event: &Event) -> Value {
    serde_json::to_value(event).expect("plain data with string keys always has a JSON form")
}

/// The view on one line.
#[must_use]
pub fn to_line(event: &Event) -> String {
    serde_json::to_string(event).expect("plain data with string keys always has a JSON form")
}

/// Reads the view back; integers may be numbers or strings. An unknown or missing field is an error.
pub fn from_str(text: &str) -> Result<Event, DecodeError> {
    serde_json::from_str(text).map_err(|error| DecodeError::malformed("JSON event", error))
}
