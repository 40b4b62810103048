//! An HTTP/1 message as it came over the wire, read plainly and kept byte for byte.

use std::io::{self, Read};

/// One request or response.
#[derive(Clone, Debug, Default)]
pub(crate) struct Message {
    /// Everything up to and including the blank line.
    pub(crate) head: Vec<u8>,
    /// The body without its framing.
    pub(crate) body: Vec<u8>,
    /// The body as sent, with chunk sizes and trailers.
    pub(crate) raw_body: Vec<u8>,
    /// The message came to its end by its own framing.
    pub(crate) is_whole: bool,
}

/// How the body of a message ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    None,
    Length(usize),
    Chunked,
    UntilClose,
}

impl Message {
    /// The first line without its end.
    pub(crate) fn first_line(&self) -> String {
        let end = self.head.windows(2).position(|pair| pair == b"\r\n").unwrap_or(self.head.len());
        String::from_utf8_lossy(&self.head[..end]).into_owned()
    }

    /// Of a response.
    pub(crate) fn status(&self) -> u16 {
        let line = self.first_line();
        line.split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok())
            .unwrap_or_else(|| panic!("no status in `{line}`"))
    }

    /// Of a request.
    pub(crate) fn method(&self) -> String {
        self.first_line().split(' ').next().unwrap_or_default().to_owned()
    }

    /// Of a request, as sent.
    pub(crate) fn target(&self) -> String {
        self.first_line().split(' ').nth(1).unwrap_or_default().to_owned()
    }

    /// Names and values in the order they came, names as spelt.
    pub(crate) fn fields(&self) -> Vec<(String, String)> {
        let head = String::from_utf8_lossy(&self.head).into_owned();
        let lines = head.split("\r\n").skip(1).filter(|line| !line.is_empty());
        lines
            .map(|line| {
                let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("`{line}` is no field"));
                (name.to_owned(), value.trim_matches([' ', '\t']).to_owned())
            })
            .collect()
    }

    /// Every value of a field, by name without regard to case.
    pub(crate) fn all(&self, name: &str) -> Vec<String> {
        let fields = self.fields().into_iter();
        fields.filter(|(held, _)| held.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect()
    }

    /// The value of a field that must not come twice.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let mut all = self.all(name);
        assert!(all.len() < 2, "`{name}` came {} times: {all:?}", all.len());
        all.pop()
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|cause| panic!("{cause} in `{}` after {}", self.text(), self.first_line()))
    }
}

/// Reads a head from `stream`; bytes behind it stay in `ahead`. Nothing if the stream ends before the head's first byte.
pub(crate) fn read_head(stream: &mut impl Read, ahead: &mut Vec<u8>) -> io::Result<Option<Vec<u8>>> {
    loop {
        if let Some(end) = ahead.windows(4).position(|window| window == b"\r\n\r\n") {
            let rest = ahead.split_off(end + 4);
            return Ok(Some(std::mem::replace(ahead, rest)));
        }
        if fill(stream, ahead)? == 0 {
            return if ahead.is_empty() { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
        }
    }
}

/// Reads the body that belongs to `message`, as far as it comes.
pub(crate) fn read_body(
    stream: &mut impl Read,
    ahead: &mut Vec<u8>,
    message: &mut Message,
    body: Body,
) -> io::Result<()> {
    match body {
        Body::None => {}
        Body::Length(length) => {
            while ahead.len() < length {
                if fill(stream, ahead)? == 0 {
                    message.raw_body.append(ahead);
                    message.body.clone_from(&message.raw_body);
                    return Ok(());
                }
            }
            message.raw_body = ahead.drain(..length).collect();
            message.body.clone_from(&message.raw_body);
        }
        Body::Chunked => {
            while let Some(size) = read_chunk(stream, ahead, message)? {
                if size == 0 {
                    message.is_whole = true;
                    return Ok(());
                }
            }
            return Ok(());
        }
        Body::UntilClose => {
            while fill(stream, ahead)? > 0 {}
            message.raw_body.append(ahead);
            message.body.clone_from(&message.raw_body);
        }
    }
    message.is_whole = true;
    Ok(())
}

/// One chunk with its line ends; the last one with its trailers. Nothing if the stream ends before.
fn read_chunk(
    stream: &mut impl Read,
    ahead: &mut Vec<u8>,
    message: &mut Message,
) -> io::Result<Option<usize>> {
    let Some(line) = read_line(stream, ahead)? else { return Ok(None) };
    message.raw_body.extend_from_slice(&line);
    let text = String::from_utf8_lossy(&line).into_owned();
    let digits = text.trim_end().split(';').next().unwrap_or_default().to_owned();
    let size = usize::from_str_radix(&digits, 16).map_err(io::Error::other)?;
    if size == 0 {
        loop {
            let Some(line) = read_line(stream, ahead)? else { return Ok(None) };
            message.raw_body.extend_from_slice(&line);
            if line == b"\r\n" {
                return Ok(Some(0));
            }
        }
    }
    while ahead.len() < size + 2 {
        if fill(stream, ahead)? == 0 {
            message.body.extend_from_slice(&ahead[..ahead.len().min(size)]);
            message.raw_body.append(ahead);
            return Ok(None);
        }
    }
    let chunk: Vec<u8> = ahead.drain(..size + 2).collect();
    message.body.extend_from_slice(&chunk[..size]);
    message.raw_body.extend_from_slice(&chunk);
    Ok(Some(size))
}

fn read_line(stream: &mut impl Read, ahead: &mut Vec<u8>) -> io::Result<Option<Vec<u8>>> {
    loop {
        if let Some(end) = ahead.windows(2).position(|window| window == b"\r\n") {
            return Ok(Some(ahead.drain(..end + 2).collect()));
        }
        if fill(stream, ahead)? == 0 {
            return Ok(None);
        }
    }
}

/// Reads once; 0 is the end of the stream.
pub(crate) fn fill(stream: &mut impl Read, ahead: &mut Vec<u8>) -> io::Result<usize> {
    let mut part = [0; 16 * 1024];
    let read = stream.read(&mut part)?;
    ahead.extend_from_slice(&part[..read]);
    Ok(read)
}

/// How the body of a request ends.
pub(crate) fn request_body(message: &Message) -> Body {
    if message.all("transfer-encoding").iter().any(|value| value.eq_ignore_ascii_case("chunked")) {
        return Body::Chunked;
    }
    match message.header("content-length") {
        Some(length) => Body::Length(length.parse().expect("a length is a number")),
        None => Body::None,
    }
}

/// How the body of a response to `method` ends.
pub(crate) fn response_body(message: &Message, method: &str) -> Body {
    let status = message.status();
    if method == "HEAD" || status < 200 || status == 204 || status == 304 {
        return Body::None;
    }
    match request_body(message) {
        Body::None => Body::UntilClose,
        body => body,
    }
}
