//! `dataset` and the files of digests: large sets of values that a buffer is looked up in.

use super::{Fault, Read};

/// What is done with the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Operation {
    IsSet,
    IsNotSet,
    Set,
    Unset,
}

/// How values are written in the file, and compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum ValueKind {
    String,
    Md5,
    Sha256,
    Ip,
}

/// How the file is written.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// One value a line, strings in base64; a comma ends it.
    Lines,
    /// One JSON document, an array at the (dotted) path; the value under the (dotted) key.
    Json {
        /// Where the array is.
        array: Option<String>,
        /// Where the value is in each element.
        value: String,
    },
    /// One JSON object a line.
    JsonLines {
        /// Where the value is in each object.
        value: String,
    },
}

/// One `dataset`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataSet {
    /// What is done.
    pub operation: Operation,
    /// The set's name.
    pub name: String,
    /// What it holds.
    pub kind: ValueKind,
    /// The file that it begins with, as written.
    pub load: Option<String>,
    /// How that is written.
    pub format: Format,
    /// Whether a value that ends in an entry (after a dot) is in the set too.
    pub subdomains: bool,
}

/// Reads the value of `dataset`.
///
/// # Errors
/// What was expected.
pub fn read(value: &str) -> Read<DataSet> {
    let mut words = value.split(',').map(str::trim).filter(|word| !word.is_empty());
    let operation = match words.next() {
        Some("isset") => Operation::IsSet,
        Some("isnotset") => Operation::IsNotSet,
        Some("set") => Operation::Set,
        Some("unset") => Operation::Unset,
        other => return Err(Fault::new(format!("'{}' is no operation", other.unwrap_or_default()))),
    };
    let name = words.next().ok_or_else(|| Fault::new("the set's name is missing"))?.to_owned();
    let (mut kind, mut load, mut format, mut subdomains) = (None, None, "", false);
    let (mut array, mut value_key) = (None, None);
    for word in words {
        let (key, rest) = word.split_once(char::is_whitespace).unwrap_or((word, ""));
        let rest = rest.trim();
        match key {
            "type" => {
                kind = Some(match rest {
                    "string" => ValueKind::String,
                    "md5" => ValueKind::Md5,
                    "sha256" => ValueKind::Sha256,
                    "ip" | "ipv4" | "ipv6" => ValueKind::Ip,
                    _ => return Err(Fault::new(format!("'{rest}' is no type"))),
                });
            }
            "load" | "state" => load = Some(rest.to_owned()),
            "format" => format = rest,
            "array_key" => array = Some(rest.to_owned()),
            "value_key" => value_key = Some(rest.to_owned()),
            "match" if rest == "subdomain" => subdomains = true,
            "save" | "memcap" | "hashsize" | "context_key" | "remove_key" => {}
            _ => return Err(Fault::new(format!("'{word}' is not understood"))),
        }
    }
    let value_key = || value_key.clone().ok_or_else(|| Fault::new("value_key is missing"));
    let format = match format {
        "" | "csv" => Format::Lines,
        "json" => Format::Json { array, value: value_key()? },
        "ndjson" | "jsonline" => Format::JsonLines { value: value_key()? },
        other => return Err(Fault::new(format!("'{other}' is no format"))),
    };
    let kind = kind.ok_or_else(|| Fault::new("type is missing"))?;
    Ok(DataSet { operation, name, kind, load, format, subdomains })
}
