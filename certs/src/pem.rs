//! PEM text: the one block that a file is supposed to hold.

use x509_parser::pem::Pem;

use crate::error::{Error, Result};

/// The label of a certificate.
pub(crate) const CERTIFICATE: &str = "CERTIFICATE";
/// The labels of a certificate signing request; the longer one is what older tools write.
pub(crate) const REQUEST: [&str; 2] = ["CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST"];
/// The label of a revocation list.
pub(crate) const REVOCATION_LIST: &str = "X509 CRL";

/// Every block of a text: label and content, in order.
pub(crate) fn blocks(text: &str) -> Vec<(String, Vec<u8>)> {
    Pem::iter_from_buffer(text.as_bytes())
        .map_while(std::result::Result::ok)
        .map(|block| (block.label, block.contents))
        .collect()
}

/// The content of the only block of a text, which must carry one of `labels`.
///
/// # Errors
/// [`Error::WrongPem`], naming `expected`, when there is another block, several, or none.
pub(crate) fn single(text: &str, labels: &[&str], expected: &'static str) -> Result<Vec<u8>> {
    let mut blocks = blocks(text);
    match (blocks.pop(), blocks.len()) {
        (Some((label, content)), 0) if labels.contains(&label.as_str()) => Ok(content),
        (last, before) => Err(Error::WrongPem {
            expected,
            found: describe(last, before),
        }),
    }
}

fn describe(last: Option<(String, Vec<u8>)>, before: usize) -> String {
    match last {
        None => "none".to_owned(),
        Some((label, _)) if before == 0 => format!("`{label}`"),
        Some(_) => format!("{} blocks", before + 1),
    }
}
