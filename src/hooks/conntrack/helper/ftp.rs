//! Reading the four lines of FTP that announce a data connection.
//!
//! ```text
//!  client   PORT h1,h2,h3,h4,p1,p2      EPRT |1|address|port|       EPRT |2|address|port|
//!  server   227 any text (h1,h2,h3,h4,p1,p2)                        229 any text (|||port|)
//! ```

use core::net::IpAddr;
use core::str;

use crate::hook::Direction;

/// What a line announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing.
    Nothing,
    /// It may announce something, and ends too early to tell.
    Partial,
    /// A connection to this port, of this address where it says one.
    End(Option<IpAddr>, u16),
}

/// Reads the data of a segment that begins at a line.
pub(super) fn read(data: &[u8], direction: Direction) -> Found {
    let words: [(&[u8], Option<u8>, Reader); 2] = match direction {
        Direction::Original => [(b"PORT ", None, six), (b"EPRT ", None, extended)],
        Direction::Reply => [(b"227 ", Some(b'('), six), (b"229 ", Some(b'('), extended)],
    };
    for (word, open, reader) in words {
        let Some((head, rest)) = data.split_at_checked(word.len()) else {
            // Shorter than the word: is it the beginning of it?
            let begins = !data.is_empty()
                && word
                    .get(..data.len())
                    .is_some_and(|word| word.eq_ignore_ascii_case(data));
            if begins {
                return Found::Partial;
            }
            continue;
        };
        if !head.eq_ignore_ascii_case(word) {
            continue;
        }
        let Some(end) = rest.iter().position(|byte| matches!(byte, b'\r' | b'\n')) else {
            return Found::Partial;
        };
        let line = rest.get(..end).unwrap_or(rest);
        let arguments = match open {
            None => line,
            Some(open) => match line.iter().position(|byte| *byte == open) {
                Some(at) => line.get(at + 1..).unwrap_or(&[]),
                None => return Found::Nothing,
            },
        };
        return reader(arguments).unwrap_or(Found::Nothing);
    }
    Found::Nothing
}

type Reader = fn(&[u8]) -> Option<Found>;

/// Six numbers from 0 to 255 with commas between them (RFC 959 section 5.3.2).
fn six(text: &[u8]) -> Option<Found> {
    let mut numbers = [0u8; 6];
    let mut parts = text.split(|byte| *byte == b',');
    for (at, number) in numbers.iter_mut().enumerate() {
        let part = parts.next()?;
        let digits = part.iter().take_while(|byte| byte.is_ascii_digit()).count();
        // Only the last may have something behind it.
        if digits == 0 || at < 5 && digits != part.len() {
            return None;
        }
        *number = str::from_utf8(part.get(..digits)?).ok()?.parse().ok()?;
    }
    let [a, b, c, d, high, low] = numbers;
    end(
        Some(IpAddr::from([a, b, c, d])),
        u16::from_be_bytes([high, low]),
    )
}

/// `|family|address|port|` with any printable delimiter that is no digit; a server leaves the first two empty (RFC 2428).
fn extended(text: &[u8]) -> Option<Found> {
    let (delimiter, rest) = text.split_first()?;
    if !(33..=126).contains(delimiter) || delimiter.is_ascii_digit() {
        return None;
    }
    let mut parts = rest.split(|byte| byte == delimiter);
    let family = parts.next()?;
    let address = str::from_utf8(parts.next()?).ok()?;
    let port = str::from_utf8(parts.next()?).ok()?;
    // The last delimiter has to be there.
    parts.next()?;
    let address = match family {
        b"" if address.is_empty() => None,
        b"1" => Some(IpAddr::V4(address.parse().ok()?)),
        b"2" => Some(IpAddr::V6(address.parse().ok()?)),
        _ => return None,
    };
    end(address, port.parse().ok()?)
}

fn end(address: Option<IpAddr>, port: u16) -> Option<Found> {
    (port != 0).then_some(Found::End(address, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(port: u16) -> Found {
        Found::End(Some(IpAddr::from([192, 168, 1, 2])), port)
    }

    #[test]
    fn lines() {
        let client = |text: &str| read(text.as_bytes(), Direction::Original);
        let server = |text: &str| read(text.as_bytes(), Direction::Reply);
        assert_eq!(client("PORT 192,168,1,2,4,1\r\n"), v4(1025));
        assert_eq!(client("port 192,168,1,2,4,1\r\n"), v4(1025));
        assert_eq!(client("EPRT |1|192.168.1.2|1025|\r\n"), v4(1025));
        let six = Found::End(Some("2001:db8::7".parse().unwrap()), 5282);
        assert_eq!(client("EPRT |2|2001:db8::7|5282|\r\n"), six);
        assert_eq!(server("227 Entering (192,168,1,2,4,1).\r\n"), v4(1025));
        assert_eq!(
            server("229 Extended (|||6446|)\r\n"),
            Found::End(None, 6446)
        );
        for nothing in [
            "USER anonymous\r\n",
            "PORT 192,168,1,256,4,1\r\n",
            "PORT 192,168,1,2,4\r\n",
            "PORT 192,168,1,2,0,0\r\n",
            "PORT 1x,168,1,2,4,1\r\n",
            "EPRT |3|192.168.1.2|1025|\r\n",
            "EPRT |1|192.168.1.2|1025\r\n",
            "EPRT 1|1|192.168.1.2|1025|\r\n",
            "227 Entering (192,168,1,2,4,1)\r\n",
            "",
        ] {
            assert_eq!(client(nothing), Found::Nothing, "{nothing}");
        }
        for partial in [
            "P",
            "po",
            "PORT ",
            "PORT 192,168",
            "EPRT |1|192.168.1.2|1025|",
        ] {
            assert_eq!(client(partial), Found::Partial, "{partial}");
        }
        assert_eq!(server("227 Entering (192,168"), Found::Partial);
        assert_eq!(server("227 no address\r\n"), Found::Nothing);
        assert_eq!(server("PORT 192,168,1,2,4,1\r\n"), Found::Nothing);
    }
}
