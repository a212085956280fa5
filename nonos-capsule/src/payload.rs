use std::borrow::Cow;

/// Bytes that are neither a WASM module nor WAT text. Their author's fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PayloadError {
    /// Text that is not valid WAT; the message shows line, column and what was expected.
    #[error("invalid WAT text: {0}")]
    Wat(String),
    /// Neither the WASM magic nor UTF-8 text.
    #[error("neither a WASM module (magic 00 61 73 6d) nor WAT text")]
    Unrecognised,
}

/// Turns WAT text into a WASM module; a binary module passes unchanged and unchecked.
///
/// # Errors
/// [`PayloadError`] with line and column of the first fault in the text.
pub fn wasm_from_wat_or_wasm(bytes: &[u8]) -> Result<Vec<u8>, PayloadError> {
    if bytes.starts_with(b"\0asm") {
        return Ok(bytes.to_vec());
    }
    if core::str::from_utf8(bytes).is_err() {
        return Err(PayloadError::Unrecognised);
    }
    wat::parse_bytes(bytes).map(Cow::into_owned).map_err(|error| PayloadError::Wat(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_becomes_a_module_and_a_module_stays() {
        let wasm = wasm_from_wat_or_wasm(b"(module)").unwrap();
        assert_eq!(wasm, b"\0asm\x01\0\0\0");
        assert_eq!(wasm_from_wat_or_wasm(&wasm), Ok(wasm.clone()));
    }

    #[test]
    fn faults_have_a_place() {
        let Err(PayloadError::Wat(message)) = wasm_from_wat_or_wasm(b"(module\n  (fun))") else {
            panic!("accepted")
        };
        assert!(message.contains("2:4"), "{message}");
        assert_eq!(wasm_from_wat_or_wasm(&[0xff, 0xfe]), Err(PayloadError::Unrecognised));
    }
}
