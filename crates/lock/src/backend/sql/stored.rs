use serde::{Deserialize, Serialize};

use super::tables::Failure;
use crate::backend::record::Record;

/// The form of the records that are written here.
const FORM: u8 = 1;

/// A record with the version of its form before it.
#[derive(Serialize, Deserialize)]
struct Stored<R> {
    #[serde(rename = "v")]
    form: u8,
    #[serde(flatten)]
    record: R,
}

#[derive(Deserialize)]
struct StoredForm {
    #[serde(rename = "v")]
    form: u8,
}

pub(super) fn encode(record: &Record) -> Result<String, Failure> {
    let stored = Stored { form: FORM, record };
    serde_json::to_string(&stored).map_err(|error| Failure::Internal(error.into()))
}

pub(super) fn decode(text: &str) -> Result<Record, Failure> {
    let internal = |error: serde_json::Error| Failure::Internal(error.into());
    let StoredForm { form } = serde_json::from_str(text).map_err(internal)?;
    if form != FORM {
        let cause = format!("a record of form {form} was found, expected {FORM}");
        return Err(Failure::Internal(cause.into()));
    }
    Ok(serde_json::from_str::<Stored<Record>>(text).map_err(internal)?.record)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Another release reads and writes it too: what changes here needs a form
    /// of its own.
    #[test]
    fn the_form_of_a_record_stays() {
        let text = r#"{"v":1,"g":[{"t":7,"n":2,"s":{"p":{"o":10}},"p":"host:1:a","l":"import","b":1,"e":60,"a":30,"m":90,"k":true,"r":5},{"t":8,"s":"r","p":"host:1:a","b":1,"e":60,"r":6}],"q":[{"p":"host:2:b","i":3,"s":"w","b":4}],"u":50}"#;
        let record = decode(text).unwrap();
        assert_eq!(encode(&record).unwrap(), text);
        assert_eq!(encode(&Record::default()).unwrap(), r#"{"v":1}"#);
        let newer = text.replace("\"v\":1", "\"v\":2");
        let error = format!("{:?}", decode(&newer).unwrap_err());
        assert!(error.contains("form 2 was found, expected 1"), "{error}");
        // What a later minor release adds is not an error.
        assert_eq!(decode(&text.replace("{\"v\":1", "{\"v\":1,\"z\":0")).unwrap(), record);
    }
}
