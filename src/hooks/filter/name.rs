//! Names of chains and sets: short, stored in place, so that rules that use them stay plain data.

use core::fmt;
use core::str::FromStr;

/// The name of a chain or a set: a letter or `_`, then letters, digits, `_`, `-` and `.`; 1 to 31 bytes of ASCII.
///
/// ```
/// use gufc::hooks::filter::Name;
///
/// let web: Name = "web-in".parse()?;
/// assert_eq!(web.to_string(), "web-in");
/// assert!("1st".parse::<Name>().is_err());
/// # Ok::<(), gufc::hooks::filter::ParseNameError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    /// Zero behind the name, so that the order is that of the text.
    bytes: [u8; Self::MAX],
    len: u8,
}

impl Name {
    /// The most bytes of a name.
    pub const MAX: usize = 31;

    /// The chain where every packet begins: `main`.
    pub const MAIN: Self = {
        let mut bytes = [0; Self::MAX];
        let main = b"main";
        let mut at = 0;
        while at < main.len() {
            bytes[at] = main[at];
            at += 1;
        }
        Self { bytes, len: 4 }
    };

    /// The name of this text, if it is one.
    pub fn new(text: &str) -> Option<Self> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
        let first = text.bytes().next()?;
        let begins = first.is_ascii_alphabetic() || first == b'_';
        if !begins || !text.bytes().all(plain) {
            return None;
        }
        let mut bytes = [0; Self::MAX];
        bytes
            .get_mut(..text.len())?
            .copy_from_slice(text.as_bytes());
        Some(Self {
            bytes,
            len: text.len() as u8,
        })
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        let bytes = self.bytes.get(..usize::from(self.len)).unwrap_or(&[]);
        core::str::from_utf8(bytes).unwrap_or("")
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

/// The text is not a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseNameError;

impl fmt::Display for ParseNameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name begins with a letter or _, goes on with letters, digits, _ - and . and has at most 31 bytes")
    }
}

impl core::error::Error for ParseNameError {}

impl FromStr for Name {
    type Err = ParseNameError;

    fn from_str(text: &str) -> Result<Self, ParseNameError> {
        Self::new(text).ok_or(ParseNameError)
    }
}
