//! Reading the four lines of FTP that announce a data connection, and writing them for another end.
//!
//! ```text
//!  client   PORT h1,h2,h3,h4,p1,p2      EPRT |1|address|port|       EPRT |2|address|port|
//!  server   227 any text (h1,h2,h3,h4,p1,p2)                        229 any text (|||port|)
//! ```

use alloc::format;
use alloc::string::String;
use core::net::IpAddr;
use core::ops::Range;
use core::str;

use crate::hook::Direction;
use crate::key::Endpoint;

/// What a segment announces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing.
    Nothing,
    /// It may announce something, and ends too early to tell.
    Partial,
    /// A connection to an end.
    End(Said),
}

/// An end as it was announced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Said {
    /// The address, where there is one.
    pub(super) address: Option<IpAddr>,
    pub(super) port: u16,
    /// Where in the data the arguments stand.
    pub(super) at: Range<usize>,
    form: Form,
}

/// How the arguments are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// Six numbers.
    Six,
    /// Family, address and port between delimiters.
    Extended(u8),
}

impl Said {
    /// The same in data that begin `by` bytes earlier.
    fn behind(self, by: usize) -> Self {
        let at = self.at.start + by..self.at.end + by;
        Self { at, ..self }
    }

    /// The arguments for another end; `None` where the form cannot say it.
    pub(super) fn written(&self, end: Endpoint) -> Option<String> {
        match (self.form, end.address) {
            (Form::Six, IpAddr::V4(address)) => {
                let [a, b, c, d] = address.octets();
                let [high, low] = end.port.to_be_bytes();
                Some(format!("{a},{b},{c},{d},{high},{low}"))
            }
            (Form::Six, IpAddr::V6(_)) => None,
            (Form::Extended(delimiter), address) => {
                let d = char::from(delimiter);
                Some(match (self.address, address) {
                    (None, _) => format!("{d}{d}{d}{}{d}", end.port),
                    (Some(_), IpAddr::V4(address)) => format!("{d}1{d}{address}{d}{}{d}", end.port),
                    (Some(_), IpAddr::V6(address)) => format!("{d}2{d}{address}{d}{}{d}", end.port),
                })
            }
        }
    }
}

/// Reads data that begin at a line.
pub(super) fn read_line(data: &[u8], direction: Direction) -> Found {
    let words: [(&[u8], Reader); 2] = match direction {
        Direction::Original => [(b"PORT ", six), (b"EPRT ", extended)],
        Direction::Reply => [(b"227 ", six), (b"229 ", extended)],
    };
    let is_bracketed = direction == Direction::Reply;
    for (word, reader) in words {
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
        let Some(end) = line_length(rest) else {
            return Found::Partial;
        };
        let line = rest.get(..end).unwrap_or(rest);
        let said = if is_bracketed {
            bracketed(line, reader)
        } else {
            reader(line)
        };
        return said.map_or(Found::Nothing, |said| Found::End(said.behind(word.len())));
    }
    Found::Nothing
}

/// How many bytes a line has before its end; `None` where that is not there.
pub(super) fn line_length(line: &[u8]) -> Option<usize> {
    line.iter().position(|byte| matches!(byte, b'\r' | b'\n'))
}

pub(super) type Reader = fn(&[u8]) -> Option<Said>;

/// What stands behind the first bracket of a line.
pub(super) fn bracketed(line: &[u8], reader: Reader) -> Option<Said> {
    let skipped = line.iter().position(|byte| *byte == b'(')? + 1;
    Some(reader(line.get(skipped..)?)?.behind(skipped))
}

/// Six numbers from 0 to 255 with commas between them (RFC 959 section 5.3.2).
pub(super) fn six(text: &[u8]) -> Option<Said> {
    let mut numbers = [0u8; 6];
    let mut parts = text.split(|byte| *byte == b',');
    let mut length = 5;
    for (at, number) in numbers.iter_mut().enumerate() {
        let part = parts.next()?;
        let digits = part.iter().take_while(|byte| byte.is_ascii_digit()).count();
        // Only the last may have something behind it.
        if digits == 0 || at < 5 && digits != part.len() {
            return None;
        }
        length += digits;
        *number = str::from_utf8(part.get(..digits)?).ok()?.parse().ok()?;
    }
    let [a, b, c, d, high, low] = numbers;
    end(Said {
        address: Some(IpAddr::from([a, b, c, d])),
        port: u16::from_be_bytes([high, low]),
        at: 0..length,
        form: Form::Six,
    })
}

/// `|family|address|port|` with any printable delimiter that is no digit; a server leaves the first two empty (RFC 2428).
pub(super) fn extended(text: &[u8]) -> Option<Said> {
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
    let length = 4 + family.len() + address.len() + port.len();
    let address = match family {
        b"" if address.is_empty() => None,
        b"1" => Some(IpAddr::V4(address.parse().ok()?)),
        b"2" => Some(IpAddr::V6(address.parse().ok()?)),
        _ => return None,
    };
    end(Said {
        address,
        port: port.parse().ok()?,
        at: 0..length,
        form: Form::Extended(*delimiter),
    })
}

fn end(said: Said) -> Option<Said> {
    (said.port != 0).then_some(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The end that a segment announces, and the arguments.
    fn said(data: &str, direction: Direction) -> Option<(Option<IpAddr>, u16, &str)> {
        match read_line(data.as_bytes(), direction) {
            Found::End(said) => Some((said.address, said.port, &data[said.at])),
            _ => None,
        }
    }

    #[test]
    fn lines() {
        let client = |text: &str| read_line(text.as_bytes(), Direction::Original);
        let server = |text: &str| read_line(text.as_bytes(), Direction::Reply);
        let v4 = Some(IpAddr::from([192, 168, 1, 2]));
        let v6 = Some("2001:db8::7".parse().unwrap());
        for (line, address, port, arguments) in [
            ("PORT 192,168,1,2,4,1\r\n", v4, 1025, "192,168,1,2,4,1"),
            ("port 192,168,1,2,4,1\r\n", v4, 1025, "192,168,1,2,4,1"),
            (
                "EPRT |1|192.168.1.2|1025|\r\n",
                v4,
                1025,
                "|1|192.168.1.2|1025|",
            ),
            (
                "EPRT |2|2001:db8::7|5282|\r\n",
                v6,
                5282,
                "|2|2001:db8::7|5282|",
            ),
        ] {
            assert_eq!(
                said(line, Direction::Original),
                Some((address, port, arguments))
            );
        }
        for (line, address, port, arguments) in [
            (
                "227 Entering (192,168,1,2,4,1).\r\n",
                v4,
                1025,
                "192,168,1,2,4,1",
            ),
            ("229 Extended (|||6446|)\r\n", None, 6446, "|||6446|"),
        ] {
            assert_eq!(
                said(line, Direction::Reply),
                Some((address, port, arguments))
            );
        }
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
    #[test]
    fn written_for_another_end() {
        let v4 = Endpoint::new("198.51.100.200".parse().unwrap(), 0x1234);
        let v6 = Endpoint::new("2001:db8::1".parse().unwrap(), 7);
        for (line, direction, end, arguments) in [
            (
                "PORT 10,0,0,2,4,1\r\n",
                Direction::Original,
                v4,
                Some("198,51,100,200,18,52"),
            ),
            ("PORT 10,0,0,2,4,1\r\n", Direction::Original, v6, None),
            (
                "EPRT !1!10.0.0.2!9!\r\n",
                Direction::Original,
                v4,
                Some("!1!198.51.100.200!4660!"),
            ),
            (
                "EPRT |2|fd00::9|9|\r\n",
                Direction::Original,
                v6,
                Some("|2|2001:db8::1|7|"),
            ),
            ("229 Yes (|||9|)\r\n", Direction::Reply, v6, Some("|||7|")),
        ] {
            let Found::End(said) = read_line(line.as_bytes(), direction) else {
                panic!("{line}")
            };
            assert_eq!(said.written(end).as_deref(), arguments);
        }
    }
}
