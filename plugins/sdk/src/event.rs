//! Domain events.

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::bindings::weir::policy::http as wit;

/// A domain event, sent to `POST /v1/events`: `{"type": "user.updated", "data": {"id": 42}}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    kind: String,
    data: String,
}

impl Event {
    /// An event of this type, with its data as JSON text (`null` when it has none).
    /// Policies are given events; this is for their tests.
    pub fn new(kind: impl Into<String>, data: impl Into<String>) -> Self {
        Self {
            kind: kind.into(),
            data: data.into(),
        }
    }

    pub(crate) fn host_side(event: &wit::Event) -> Self {
        Self::new(event.kind(), event.data())
    }

    /// Its type: `user.updated`.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// Its data as JSON text; `null` when it has none.
    pub fn data_json(&self) -> &str {
        &self.data
    }

    /// Its data.
    ///
    /// # Errors
    /// When the data does not have the form of `T`; the text names the event's type.
    pub fn data<T: DeserializeOwned>(&self) -> Result<T, String> {
        serde_json::from_str(&self.data)
            .map_err(|error| format!("the data of the event {}: {error}", self.kind))
    }

    /// One field of the data as text, when it is a string that is not empty, or a number:
    /// identifiers come as either.
    ///
    /// # Errors
    /// When there is no such field, or it is of another kind.
    ///
    /// ```
    /// use weir_sdk::Event;
    ///
    /// let event = Event::new("user.updated", r#"{"id": 42}"#);
    /// assert_eq!(event.text("id"), Ok("42".to_owned()));
    /// assert!(event.text("name").is_err());
    /// ```
    pub fn text(&self, field: &str) -> Result<String, String> {
        let mut data: Value = self.data()?;
        match data.get_mut(field).map(Value::take) {
            Some(Value::String(text)) if !text.is_empty() => Ok(text),
            Some(Value::Number(number)) => Ok(number.to_string()),
            _ => Err(format!(
                "the event {} needs \"{field}\" in its data, a string or a number: {{\"{field}\": …}}",
                self.kind
            )),
        }
    }
}
