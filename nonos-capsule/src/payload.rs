use std::borrow::Cow;

use wasmparser::{KnownCustom, Name, Parser, Payload};

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

/// The name that a module's `name` section gives a function, for messages to its author.
#[must_use]
pub fn function_name(wasm: &[u8], index: u32) -> Option<String> {
    for part in Parser::new(0).parse_all(wasm) {
        if let Ok(Payload::CustomSection(section)) = part
            && let KnownCustom::Name(names) = section.as_known()
        {
            for subsection in names {
                let Ok(Name::Function(functions)) = subsection else { continue };
                let found = functions.into_iter().filter_map(Result::ok).find(|naming| naming.index == index);
                return found.map(|naming| naming.name.to_owned());
            }
        }
    }
    None
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
    fn functions_have_the_names_of_their_author() {
        let wasm = wasm_from_wat_or_wasm(b"(module (func $one) (func $two))").unwrap();
        assert_eq!(function_name(&wasm, 1).as_deref(), Some("two"));
        assert_eq!(function_name(&wasm, 2), None);
        assert_eq!(function_name(b"\0asm", 0), None);
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
