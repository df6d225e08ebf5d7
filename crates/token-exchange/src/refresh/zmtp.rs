//! ZMTP 3.0 (ZeroMQ RFC 23), as far as a ROUTER needs it that is spoken to by REQ sockets over a local socket: greeting, NULL
//! mechanism, READY, and messages of a few short frames. Peers of ZMTP 3.1 speak it too, and may send PING.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

const GREETING: usize = 64;
const MORE: u8 = 1;
const LONG: u8 = 2;
const COMMAND: u8 = 4;
/// Longest frame and most frames of a message: a request has some hundred bytes in two frames.
const MOST_BYTES: u64 = 64 * 1024;
const MOST_FRAMES: usize = 8;

/// What a peer sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Incoming {
    /// A whole message, frame by frame.
    Message(Vec<Vec<u8>>),
    /// A PING; it is answered with these bytes.
    Ping(Vec<u8>),
}

fn bad(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Greets a peer, which must be one that asks and waits for an answer.
pub(super) async fn greet(
    reader: &mut (impl AsyncRead + Unpin),
    writer: &mut (impl AsyncWrite + Unpin),
) -> io::Result<()> {
    let mut ours = [0_u8; GREETING];
    (ours[0], ours[9], ours[10]) = (0xff, 0x7f, 3);
    ours[12..16].copy_from_slice(b"NULL");
    writer.write_all(&ours).await?;
    let mut theirs = [0_u8; GREETING];
    reader.read_exact(&mut theirs).await?;
    if theirs[0] != 0xff || theirs[9] & 1 != 1 {
        return Err(bad("no ZMTP greeting"));
    }
    if theirs[10] < 3 {
        return Err(bad("a ZMTP older than 3.0"));
    }
    if theirs[12..32].split(|byte| *byte == 0).next() != Some(b"NULL") {
        return Err(bad("another mechanism than NULL"));
    }
    let mut ready = Vec::new();
    ready.extend_from_slice(b"\x05READY\x0bSocket-Type\x00\x00\x00\x06ROUTER");
    writer.write_all(&frame(COMMAND, &ready)).await?;
    let (flags, body) = read_frame(reader).await?;
    let Some(properties) = body.strip_prefix(b"\x05READY").filter(|_| flags & COMMAND != 0) else {
        return Err(bad("no READY"));
    };
    match property(properties, b"socket-type") {
        Some(b"REQ" | b"DEALER") => Ok(()),
        _ => Err(bad("a socket type that asks nothing")),
    }
}

/// The next message or PING; other commands are passed over.
pub(super) async fn receive(reader: &mut (impl AsyncRead + Unpin)) -> io::Result<Incoming> {
    let mut frames = Vec::new();
    loop {
        let (flags, body) = read_frame(reader).await?;
        if flags & COMMAND != 0 {
            // Its name, two bytes of time to live, and what is to be sent back.
            if let Some(context) = body.strip_prefix(b"\x04PING").and_then(|rest| rest.get(2..)) {
                return Ok(Incoming::Ping(frame(COMMAND, &[b"\x04PONG", context].concat())));
            }
            continue;
        }
        frames.push(body);
        if flags & MORE == 0 {
            return Ok(Incoming::Message(frames));
        }
        if frames.len() >= MOST_FRAMES {
            return Err(bad("a message of too many frames"));
        }
    }
}

/// A message as bytes.
pub(super) fn message(frames: &[Vec<u8>]) -> Vec<u8> {
    let last = frames.len().saturating_sub(1);
    let one = |(at, body): (usize, &Vec<u8>)| frame(if at == last { 0 } else { MORE }, body);
    frames.iter().enumerate().flat_map(one).collect()
}

fn frame(flags: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(body.len() + 9);
    match u8::try_from(body.len()) {
        Ok(short) => bytes.extend_from_slice(&[flags, short]),
        Err(_) => {
            bytes.push(flags | LONG);
            bytes.extend_from_slice(&u64::try_from(body.len()).unwrap_or(u64::MAX).to_be_bytes());
        }
    }
    bytes.extend_from_slice(body);
    bytes
}

async fn read_frame(reader: &mut (impl AsyncRead + Unpin)) -> io::Result<(u8, Vec<u8>)> {
    let flags = reader.read_u8().await?;
    let length = match flags & LONG {
        0 => u64::from(reader.read_u8().await?),
        _ => reader.read_u64().await?,
    };
    if length > MOST_BYTES {
        return Err(bad("a frame that is too long"));
    }
    let mut body = vec![0; usize::try_from(length).unwrap_or(0)];
    reader.read_exact(&mut body).await?;
    Ok((flags, body))
}

/// A property of READY; names know no case.
fn property<'a>(mut rest: &'a [u8], wanted: &[u8]) -> Option<&'a [u8]> {
    while let Some((length, more)) = rest.split_first() {
        let (name, more) = more.split_at_checked(usize::from(*length))?;
        let (length, more) = more.split_first_chunk::<4>()?;
        let (value, more) = more.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
        if name.eq_ignore_ascii_case(wanted) {
            return Some(value);
        }
        rest = more;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a REQ socket of libzmq 4.3.5 sends (ZMTP 3.1): greeting and READY.
    fn client() -> Vec<u8> {
        let mut bytes = b"\xff\x00\x00\x00\x00\x00\x00\x00\x01\x7f\x03\x01NULL".to_vec();
        bytes.resize(GREETING, 0);
        bytes.extend_from_slice(
            b"\x04\x26\x05READY\x0bSocket-Type\x00\x00\x00\x03REQ\x08Identity\x00\x00\x00\x00",
        );
        bytes
    }

    #[tokio::test]
    async fn a_req_socket_is_greeted_and_its_envelope_kept() {
        let mut written = Vec::new();
        let mut bytes = client();
        bytes.extend_from_slice(b"\x04\x09\x04PING\x00\x00hi");
        bytes.extend_from_slice(b"\x01\x00\x00\x03abc");
        let mut reader = bytes.as_slice();
        greet(&mut reader, &mut written).await.unwrap();
        assert_eq!((&written[..1], &written[9..16]), (&b"\xff"[..], &b"\x7f\x03\x00NULL"[..]));
        assert_eq!(&written[64..], b"\x04\x1c\x05READY\x0bSocket-Type\x00\x00\x00\x06ROUTER");
        let pong = b"\x04\x07\x04PONGhi".to_vec();
        assert_eq!(receive(&mut reader).await.unwrap(), Incoming::Ping(pong));
        let asked = vec![Vec::new(), b"abc".to_vec()];
        assert_eq!(receive(&mut reader).await.unwrap(), Incoming::Message(asked.clone()));
        assert_eq!(message(&asked), b"\x01\x00\x00\x03abc");
        let long = message(&[Vec::new(), vec![7; 300]]);
        assert_eq!(long[..11], *b"\x01\x00\x02\x00\x00\x00\x00\x00\x00\x01\x2c");
    }

    #[tokio::test]
    async fn who_speaks_otherwise_is_turned_away() {
        let changed = |at: usize, byte: u8| {
            let mut bytes = client();
            bytes[at] = byte;
            bytes
        };
        let publisher = {
            let mut bytes = client();
            let at = bytes.len() - 16;
            bytes[at..at + 3].copy_from_slice(b"PUB");
            bytes
        };
        for bytes in [changed(0, 1), changed(10, 1), changed(12, b'P'), changed(64, 0), publisher] {
            assert!(greet(&mut bytes.as_slice(), &mut Vec::new()).await.is_err());
        }
        let mut long = b"\x02\x00\x00\x00\x10\x00\x00\x00\x00".as_slice();
        assert!(receive(&mut long).await.is_err());
        let many = b"\x01\x00".repeat(20);
        assert!(receive(&mut many.as_slice()).await.is_err());
    }
}
