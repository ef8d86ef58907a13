use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{CacheService, Error, Key, Result};

/// Values as they are stored.
impl CacheService {
    pub(crate) fn encode<T: Serialize + ?Sized>(
        &self,
        operation: &'static str,
        key: &Key,
        value: &T,
    ) -> Result<Bytes> {
        serde_json::to_vec(value).map(Bytes::from).map_err(|cause| Error::Codec {
            at: self.at(operation),
            key: key.clone(),
            expected: "a value that JSON can hold",
            cause: cause.into(),
        })
    }

    pub(crate) fn decode<T: DeserializeOwned>(
        &self,
        operation: &'static str,
        key: &Key,
        bytes: &[u8],
    ) -> Result<T> {
        serde_json::from_slice(bytes).map_err(|cause| Error::Codec {
            at: self.at(operation),
            key: key.clone(),
            expected: std::any::type_name::<T>(),
            cause: without_the_value(&cause).into(),
        })
    }

    pub(crate) fn text(&self, operation: &'static str, key: &Key, bytes: Bytes) -> Result<String> {
        String::from_utf8(bytes.into()).map_err(|cause| Error::Codec {
            at: self.at(operation),
            key: key.clone(),
            expected: "text in UTF-8",
            cause: cause.utf8_error().into(),
        })
    }
}

/// Says where the decoding failed; serde's own message may quote what is
/// stored.
fn without_the_value(cause: &serde_json::Error) -> String {
    let what = match cause.classify() {
        serde_json::error::Category::Data => "another shape",
        serde_json::error::Category::Eof => "cut off",
        _ => "no JSON",
    };
    format!("{what} at line {}, column {}", cause.line(), cause.column())
}
