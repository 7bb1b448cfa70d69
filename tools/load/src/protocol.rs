//! As much of memcached's text protocol as the client speaks.

use std::io::{self, BufRead, Read, Write};

/// The longest line that a reply may have.
const LONGEST_LINE: u64 = 2048;

/// A reply after which the connection can be used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// The value was stored, or was found and has the length expected.
    Done,
    /// It was not stored or not found, or the server reports an error of its own (`SERVER_ERROR`).
    Refused,
}

/// Appends the request that stores `value` under `key`.
pub fn write_set(out: &mut Vec<u8>, key: u64, value: &[u8]) {
    write!(out, "set {} 0 0 {}\r\n", Key(key), value.len()).expect("a Vec takes all");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Appends the request for what `key` holds.
pub fn write_get(out: &mut Vec<u8>, key: u64) {
    write!(out, "get {}\r\n", Key(key)).expect("a Vec takes all");
}

/// A key by its number.
struct Key(u64);

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "infera-{:08}", self.0)
    }
}

/// Reads the reply to a set.
///
/// # Errors
///
/// The connection fails or ends before the reply does, or the reply is none of `STORED`, `NOT_STORED` and
/// `SERVER_ERROR`. The connection cannot be used after that.
pub fn read_set(input: &mut impl BufRead) -> io::Result<Reply> {
    let line = read_line(input)?;
    match line.as_slice() {
        b"STORED" => Ok(Reply::Done),
        b"NOT_STORED" => Ok(Reply::Refused),
        other => refused_or_invalid(other),
    }
}

/// Reads the reply to a get of `key`, whose value should have `bytes` bytes.
///
/// # Errors
///
/// The connection fails or ends before the reply does, or the reply is for another key or length, or is none that the
/// protocol has here. The connection cannot be used after that.
pub fn read_get(input: &mut impl BufRead, key: u64, bytes: usize) -> io::Result<Reply> {
    let line = read_line(input)?;
    if line == b"END" {
        return Ok(Reply::Refused);
    }
    let Some(header) = line.strip_prefix(b"VALUE ") else {
        return refused_or_invalid(&line);
    };
    let expected = format!("{} 0 {bytes}", Key(key));
    if header != expected.as_bytes() {
        return Err(invalid(&line));
    }
    let data = bytes as u64;
    if io::copy(&mut input.by_ref().take(data), &mut io::sink())? != data {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    for wanted in [b"".as_slice(), b"END"] {
        let line = read_line(input)?;
        if line != wanted {
            return Err(invalid(&line));
        }
    }
    Ok(Reply::Done)
}

fn refused_or_invalid(line: &[u8]) -> io::Result<Reply> {
    if line.starts_with(b"SERVER_ERROR") {
        Ok(Reply::Refused)
    } else {
        Err(invalid(line))
    }
}

fn invalid(line: &[u8]) -> io::Error {
    let text = format!("unexpected reply {:?}", String::from_utf8_lossy(line));
    io::Error::new(io::ErrorKind::InvalidData, text)
}

/// Reads a line, and takes off its end.
fn read_line(input: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    input
        .by_ref()
        .take(LONGEST_LINE)
        .read_until(b'\n', &mut line)?;
    match line.strip_suffix(b"\r\n") {
        Some(text) => {
            line.truncate(text.len());
            Ok(line)
        }
        None if (line.len() as u64) < LONGEST_LINE && !line.ends_with(b"\n") => {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
        None => Err(invalid(&line)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(mut reply: &[u8]) -> Result<Reply, io::ErrorKind> {
        let got = read_get(&mut reply, 1, 3).map_err(|e| e.kind());
        if got.is_ok() {
            assert!(reply.is_empty(), "the reply was not read to its end");
        }
        got
    }

    fn set(mut reply: &[u8]) -> Result<Reply, io::ErrorKind> {
        read_set(&mut reply).map_err(|e| e.kind())
    }

    #[test]
    fn requests() {
        let mut out = Vec::new();
        write_set(&mut out, 1, b"xyz");
        write_get(&mut out, 23);
        let wanted = b"set infera-00000001 0 0 3\r\nxyz\r\nget infera-00000023\r\n";
        assert_eq!(out, wanted);
    }

    #[test]
    fn set_replies() {
        assert_eq!(set(b"STORED\r\n"), Ok(Reply::Done));
        assert_eq!(set(b"NOT_STORED\r\n"), Ok(Reply::Refused));
        assert_eq!(
            set(b"SERVER_ERROR out of memory storing object\r\n"),
            Ok(Reply::Refused)
        );
        assert_eq!(set(b"ERROR\r\n"), Err(io::ErrorKind::InvalidData));
        assert_eq!(set(b"STORED\n"), Err(io::ErrorKind::InvalidData));
        assert_eq!(set(b"STOR"), Err(io::ErrorKind::UnexpectedEof));
        assert_eq!(set(b""), Err(io::ErrorKind::UnexpectedEof));
        assert_eq!(set(&[b'x'; 5000]), Err(io::ErrorKind::InvalidData));
    }

    #[test]
    fn get_replies() {
        let hit = b"VALUE infera-00000001 0 3\r\nxyz\r\nEND\r\n";
        assert_eq!(get(hit), Ok(Reply::Done));
        // Line ends within the data are data.
        let hit = b"VALUE infera-00000001 0 3\r\n\r\nz\r\nEND\r\n";
        assert_eq!(get(hit), Ok(Reply::Done));
        assert_eq!(get(b"END\r\n"), Ok(Reply::Refused));
        for wrong in [
            b"VALUE infera-00000002 0 3\r\nxyz\r\nEND\r\n".as_slice(),
            b"VALUE infera-00000001 0 4\r\nwxyz\r\nEND\r\n",
            b"VALUE infera-00000001 0 3\r\nxyzw\r\nEND\r\n",
            b"CLIENT_ERROR bad\r\n",
        ] {
            assert_eq!(get(wrong), Err(io::ErrorKind::InvalidData));
        }
        let cut = b"VALUE infera-00000001 0 3\r\nxy";
        assert_eq!(get(cut), Err(io::ErrorKind::UnexpectedEof));
    }
}
